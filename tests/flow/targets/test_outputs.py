"""What `output()` gives: targets, or a sentence about what is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jubako.errors import InputError
from jubako.flow.graph.completeness import targets_exist
from jubako.flow.graph.standing import Broken, Standing, ask_complete, ask_family
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.targets.outputs import find_targets
from jubako.flow.tasks.task import Task


class Gives(Task):
    given: Any = None

    def output(self) -> Any:
        return self.given


def giving(what: Any) -> Gives:
    task = Gives()
    task.given = what
    return task


def test_targets_are_flat_and_whatever_can_be_asked_is_one() -> None:
    file, path = LocalTarget("a"), Path("b")
    assert find_targets(giving(file)) == [file]
    assert find_targets(giving({"a": file, "more": [path]})) == [file, path]
    assert find_targets(giving(None)) == []


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        ("a/b", "gives 'a/b', which is no target; LocalTarget('a/b') is one"),
        ([LocalTarget("a"), 7], "gives 7, which is no target; give a LocalTarget"),
        (Gives(), "gives Gives(), which is no target; give what its output() gives"),
    ],
)
def test_what_is_no_target_is_named_with_the_cure_wherever_a_task_is_asked(given: Any, cure: str) -> None:
    task = giving(given)
    with pytest.raises(InputError) as caught:
        find_targets(task)
    assert caught.value.message.startswith(f"output() of Gives() {cure}")
    with pytest.raises(InputError):
        ask_complete(task)
    for answer in (*Standing(targets_exist).look([task]), *ask_family([task], targets_exist)):
        assert isinstance(answer, Broken)
        assert answer.sentence == caught.value.message
