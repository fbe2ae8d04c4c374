"""Start-up is a budget, counted in modules: what each ordinary command line imports, and what none of them may."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jubako._version import __version__

SOURCE = Path(__file__).parents[2] / "src"
# Each takes a millisecond or more, with all it imports in turn; a box is made in ten.
HEAVY = {
    *("asyncio", "click", "csv", "dataclasses", "datetime", "difflib", "inspect", "json", "logging", "multiprocessing"),
    *("platform", "random", "re", "rich", "shlex", "shutil", "socket", "sqlite3", "subprocess", "tempfile"),
    *("threading", "traceback", "typing", "uuid"),
}
LESS_HEAVY = {"collections", "contextlib", "enum", "functools", "signal"}  # five milliseconds together
of_root = pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's doctor has more to look at")
START = "from jubako.__main__ import start; start()"


@pytest.mark.parametrize(
    ("line", "most", "heavy"),
    [
        ("--version", 12, HEAVY | LESS_HEAVY),
        ("box ls", 59, HEAVY | LESS_HEAVY),
        pytest.param("box run -- true", 90, HEAVY | LESS_HEAVY, marks=pytest.mark.box),
        pytest.param("try -n true", 116, HEAVY - {"json", "re"}, marks=pytest.mark.box),
        pytest.param("unshare -r true", 50, HEAVY | LESS_HEAVY, marks=pytest.mark.box),
        pytest.param("doctor", 68, HEAVY, marks=[pytest.mark.box, of_root]),
    ],
)
def test_command_line_imports_few_modules_and_none_that_is_heavy(
    line: str, most: int, heavy: set[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", START, *line.split()],
        env=os.environ | {"PYTHONPATH": str(SOURCE), "JUBAKO_STATE": str(tmp_path / "state")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    names = [text.rpartition("|")[2].strip() for text in done.stderr.splitlines() if text.startswith("import time:")]
    imported = names[names.index("site") + 1 :]  # what comes before, Python imports for itself
    assert "jubako.cli.short" in imported
    assert heavy.isdisjoint(imported)
    assert len(imported) <= most, sorted(imported)


def test_installed_script_takes_the_arguments_of_the_process() -> None:
    done = subprocess.run(
        [sys.executable, SOURCE.parent / "scripts/jubako", "--version"],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"jubako {__version__}\n"
