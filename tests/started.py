"""A `jubako` command as a process of its own, for tests that look at it while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SOURCE = str(Path(__file__).parents[1] / "src")


def start(place: Path, *words: str) -> subprocess.Popen[str]:
    """`jubako` with `words`, in `place` and with its state there; what it prints is the caller's to read."""
    return subprocess.Popen(
        [sys.executable, "-m", "jubako", *words],
        cwd=place,
        env={**os.environ, "PYTHONPATH": SOURCE, "JUBAKO_STATE": str(place / "state")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
