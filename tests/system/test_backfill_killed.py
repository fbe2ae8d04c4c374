"""A real `kill -9` in the middle of a real backfill, again and again: what is there at the end is what an undisturbed
run leaves, byte for byte, and nothing else is.

Two ways to die: only the process the user started (its workers must follow by themselves), and every process of the
tree at once, deepest first. The moments are spread over the run by a seeded generator.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TASKS = 300
FIRST, LAST = "2010-01-01", "2010-10-27"  # 300 days

PIPELINE = '''
import datetime
from jubako import DateParameter, LocalTarget, Task


class Day(Task):
    """Two outputs in two folders; the second depends on every byte of the first."""

    date = DateParameter()

    def output(self):
        return [LocalTarget(f"out/{self.date:%Y/%m}/{self.date}.txt"), LocalTarget(f"sums/{self.date}.sum")]

    def run(self):
        import hashlib
        text = "".join(f"{self.date} {i}\\n" for i in range(200))
        with self.output()[0].open("w") as file:
            file.write(text)
        self.output()[1].makedirs()
        with open(self.output()[1].path, "w") as file:  # a raw write, not through the target
            file.write(hashlib.sha256(text.encode()).hexdigest())
'''


def start(folder: Path, state: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "JUBAKO_STATE": str(state)}
    command = [sys.executable, "-m", "jubako", "backfill", "pipeline.py", "Day", "--from", FIRST, "--to", LAST]
    return subprocess.Popen(
        [*command, "--inclusive", "--workers", "2"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(folder: Path, state: Path) -> str:
    process = start(folder, state)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text.decode()
    return text.decode()


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{thread}/children").read_text()
            for child in map(int, text.split()):
                found += [*children_of(child), child]
    except (FileNotFoundError, ProcessLookupError):
        return found
    return found


def kill(process: subprocess.Popen[bytes], *, everything: bool) -> None:
    for pid in [*(children_of(process.pid) if everything else []), process.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.communicate(timeout=60)


def living_with(state: Path) -> list[int]:
    """Processes that were started with this state root in their environment."""
    mark = f"JUBAKO_STATE={state}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                environment = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if mark in environment.split(b"\0"):
                found.append(int(name))
    return found


def wait_until_gone(state: Path, limit_s: float = 20.0) -> list[int]:
    deadline = time.monotonic() + limit_s
    while living_with(state) and time.monotonic() < deadline:
        os.sched_yield()
    return living_with(state)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"(directory)"
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }


def kill_many_times(tmp_path: Path, kills: int, seed: int) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    for folder in (calm, rough):
        folder.mkdir()
        (folder / "pipeline.py").write_text(PIPELINE)
    mounts_before = Path("/proc/self/mountinfo").read_text()

    began = time.monotonic()
    finish(calm, tmp_path / "state-calm")
    undisturbed_s = time.monotonic() - began
    expected = tree(calm)
    assert sum(name.endswith(".txt") for name in expected) == TASKS

    moments = random.Random(seed)
    state = tmp_path / "state-rough"
    interrupted = 0
    for attempt in range(kills):
        process = start(rough, state)
        try:
            process.wait(timeout=moments.uniform(0.05, 1.0) * undisturbed_s * 1.5 / kills + 0.3)
        except subprocess.TimeoutExpired:
            interrupted += 1
        kill(process, everything=bool(attempt % 2))
        assert wait_until_gone(state) == []
    finish(rough, state)

    assert interrupted >= kills // 2, "the backfill was over before it could be killed"
    assert tree(rough) == expected
    assert [path.name for path in rough.rglob(".jubako*")] == []
    assert list((state / "stage").iterdir()) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts_before
    assert living_with(state) == []


def test_backfill_killed_a_few_times_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    kill_many_times(tmp_path, kills=4, seed=1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_backfill_killed_twenty_times_ends_as_an_undisturbed_one(tmp_path: Path, seed: int) -> None:
    kill_many_times(tmp_path, kills=20, seed=seed)
