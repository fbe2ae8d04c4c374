"""Many boxed tasks in a row leave nothing in the process that ran them, nor on the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PIPELINE = """
class Small(Task):
    n = IntParameter()

    def output(self):
        return [LocalTarget(f"small/{self.n % 7}/{self.n}.txt"), DirectoryTarget(f"trees/{self.n}")]

    def run(self):
        with self.output()[0].open("w") as file:
            file.write(str(self.n))
        with self.output()[1].temporary_path() as folder, open(f"{folder}/x", "w") as file:
            file.write(str(self.n))
        with open("stray", "w"):
            pass
        if self.n % 5 == 4:
            raise RuntimeError("every fifth")
"""


def run_many(world: Any, count: int) -> None:
    world.write(PIPELINE)
    world.run(world.Small(0), workers=2)
    descriptors, mounts = len(os.listdir("/proc/self/fd")), Path("/proc/self/mountinfo").read_text()
    result = world.run(*(world.Small(n) for n in range(1, count)), workers=2)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert [result.counts[name] for name in ("done", "failed")] == [count - 1 - count // 5, count // 5]
    files = {name for name, content in world.files().items() if content != b"(directory)"}
    good = [n for n in range(count) if n % 5 != 4]
    assert files == {f"small/{n % 7}/{n}.txt" for n in good} | {f"trees/{n}/x" for n in good}
    assert sorted(os.listdir(world.state)) == ["boxes", "ledger.sqlite", "logs", "stage"]
    assert os.listdir(world.state / "boxes") == []
    children = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True, check=False
    )
    assert [line for line in children.stdout.splitlines() if "jubako" in line or sys.executable in line] == []


@pytest.mark.box
def test_fifty_boxed_tasks_leave_nothing(world: Any) -> None:
    run_many(world, 50)


@pytest.mark.box
@pytest.mark.soak
def test_thousand_boxed_tasks_leave_nothing(world: Any) -> None:
    run_many(world, 1000)
