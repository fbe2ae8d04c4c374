"""A Python file whose module is checked: what it does when it is loaded cannot end the check."""

from __future__ import annotations

from pathlib import Path

import pytest

from jubako.attention import CheckOptions
from jubako.attention.observing.subject import check_subject
from jubako.errors import InputError


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import sys\nsys.exit()\n", "does not load: SystemExit"),
        ("import sys\n\ndef layer():\n    sys.exit(0)\n", r"layer\(\) raises SystemExit: 0"),
    ],
)
def test_file_that_leaves_the_process_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "leaving.py"
    path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        check_subject(str(path), "layer", "", CheckOptions())
