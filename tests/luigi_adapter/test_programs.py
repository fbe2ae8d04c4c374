"""Programs that use Luigi as a library: the same script, run by Luigi and by jubako, prints the same."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

Python = Callable[..., subprocess.CompletedProcess[str]]
SCRIPT = Path(__file__).parent / "pipelines" / "library.py"


def test_program_prints_the_same(python: Python, tmp_path: Path) -> None:
    said = []
    for name, words in (("theirs", []), ("ours", ["-m", "jubako.luigi"])):
        folder = tmp_path / name
        folder.mkdir()
        result = python(["-W", "ignore", *words, str(SCRIPT)], cwd=folder, fails=True)
        said.append(result.stdout.splitlines() + ([result.stderr] if result.returncode else []))
    theirs, ours = said
    assert theirs[-1] == "True 3.8.1"
    assert ours == theirs
