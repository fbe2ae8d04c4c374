"""The examples, copied to where a test may run them, and jubako's command run there as a user would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["ROOT", "copy_examples", "jubako"]

ROOT = Path(__file__).parents[1]


def copy_examples(place: Path) -> Path:
    """Copies the examples below `place`, which it gives back, without what running them has made."""
    shutil.copytree(ROOT / "examples", place / "examples", ignore=shutil.ignore_patterns("out", "__pycache__"))
    return place


def jubako(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in `place`, with a state root there."""
    return subprocess.run(
        [sys.executable, "-m", "jubako", *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "JUBAKO_STATE": str(place / "state")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
