from __future__ import annotations

import pytest

from jubako.flow.ledger.run_id import is_run_id, make_run_id


def test_make_run_id_begins_with_the_second_and_has_the_form_of_one() -> None:
    run_id = make_run_id(1_000_000_000.9)
    assert run_id.startswith("20010909T014640-")
    assert is_run_id(run_id)
    assert make_run_id(1_000_000_000.9) != run_id


@pytest.mark.parametrize(
    "name",
    [
        "",
        "my-notes.txt",
        "20010909T014640",
        "20010909T014640-12345g",
        "x20010909T014640-123456",
        "20010909T014640-123456\n",
    ],
)
def test_is_run_id_of_any_other_name_is_false(name: str) -> None:
    assert not is_run_id(name)
