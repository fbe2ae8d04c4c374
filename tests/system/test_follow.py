"""`jubako logs --follow` beside a run that lives: lines come while it works, and the end with its end."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from started import start

PIPELINE = """
import sys, time
from pathlib import Path
from jubako import Box, LocalTarget, Task

GATE = Path(__file__).parent / "gate"

class Slow(Task):
    box = Box(binds=[str(GATE)])

    def output(self):
        return LocalTarget("slow.txt")

    def run(self):
        print("begun", flush=True)
        while not (GATE / "open").exists():
            time.sleep(0.01)
        print("the end of it", file=sys.stderr, end="")
        with self.output().open("w") as file:
            file.write("x")
"""

MODES = [
    pytest.param("none", 1, id="in-process"),
    pytest.param("none", 2, id="forked"),
    pytest.param("host", 1, id="boxed", marks=pytest.mark.box),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "slow.py").write_text(PIPELINE)
    (tmp_path / "gate").mkdir()
    return tmp_path


def begin(place: Path, box: str, workers: int) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """A run whose task has printed its first line, and a follower."""
    run = start(place, "run", "slow.py", "Slow", "--box", box, "--workers", str(workers), "--durability", "relaxed")
    assert run.stderr is not None
    assert next(line for line in run.stderr if "begun" in line)
    return run, start(place, "logs", "--follow")


@pytest.mark.parametrize(("box", "workers"), MODES[1:])
def test_follower_shows_lines_while_the_task_works_and_ends_with_the_run(place: Path, box: str, workers: int) -> None:
    run, follower = begin(place, box, workers)
    assert follower.stdout is not None
    assert follower.stdout.readline() == "Slow() | begun\n"
    assert run.poll() is None
    (place / "gate/open").touch()
    out, err = follower.communicate(timeout=30)
    run.communicate(timeout=30)
    assert (follower.returncode, out) == (0, "Slow() | the end of it\n")
    assert ": ok (1 done)." in err


def test_follower_of_a_killed_run_says_so(place: Path) -> None:
    run, follower = begin(place, "none", 2)
    assert follower.stdout is not None
    follower.stdout.readline()
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=30)
    _, err = follower.communicate(timeout=30)
    assert follower.returncode == 1
    assert err.endswith(": killed.\n")
