"""Two runs at once: every task is run by one of them, both end with everything there; and the dead are inherited."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PIPELINE = """
class Slow(Task):
    n = IntParameter()
    box = Box(binds=[SHARED])

    def output(self):
        return LocalTarget(f"slow-{self.n}.txt")

    def run(self):
        with open(f"{SHARED}/{self.n}.{os.getpid()}.{time.monotonic_ns()}", "w"):
            pass
        time.sleep(0.02)
        with self.output().open("w") as file:
            file.write(str(self.n))

class Sum(Task):
    def requires(self):
        return [Slow(n) for n in range(30)]

    def output(self):
        return LocalTarget("sum.txt")

    def run(self):
        total = 0
        for target in self.input():
            with target.open() as file:
                total += int(file.read())
        with self.output().open("w") as file:
            file.write(str(total))
"""

SCRIPT = """
import sys
from jubako.flow.loader import load_pipeline
from jubako.flow.run.runner import run
pipeline = load_pipeline(sys.argv[1])
result = run([pipeline.tasks["Sum"]()], pipeline=pipeline, state=sys.argv[2], box=sys.argv[3], durability="relaxed",
             workers=int(sys.argv[4]))
print("\\n".join([*result.format_report(), f"done {result.counts['done']}"]))
sys.exit(0 if result else 1)
"""

MODES = [
    pytest.param("none", 1, id="in-process"),
    pytest.param("none", 2, id="forked"),
    pytest.param("host", 2, id="boxed", marks=pytest.mark.box),
]


def start(world: Any, box: str, workers: int) -> subprocess.Popen[str]:
    arguments = [str(world.pipeline.source.file), str(world.state), box, str(workers)]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=world.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(path: Path, pattern: str, limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not list(path.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern} in {path}"
        os.sched_yield()


@pytest.mark.parametrize(("box", "workers"), MODES)
def test_two_runs_at_once_never_run_a_task_twice(world: Any, box: str, workers: int) -> None:
    world.write(f"SHARED = {str(world.shared)!r}\n{PIPELINE}")
    first, second = start(world, box, workers), start(world, box, workers)
    outputs = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    runs = sorted(int(name.split(".")[0]) for name in os.listdir(world.shared))
    assert runs == list(range(30))
    assert world.read("sum.txt") == str(sum(range(30)))
    assert sum(int(text.rsplit("done ", 1)[1]) for text in outputs) == 31


@pytest.mark.parametrize(("box", "workers"), MODES)
def test_run_takes_over_what_a_killed_run_had(world: Any, box: str, workers: int) -> None:
    world.write(f"SHARED = {str(world.shared)!r}\n{PIPELINE}")
    dying = start(world, box, workers)
    wait_for(world.shared, "5.*")
    dying.send_signal(signal.SIGKILL)
    dying.communicate(timeout=60)
    living = start(world, box, workers)
    output = living.communicate(timeout=120)[0]
    assert living.returncode == 0, output
    assert world.read("sum.txt") == str(sum(range(30)))


@pytest.mark.parametrize(("box", "workers"), MODES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_the_run_in_good_order_and_the_next_carries_on(
    world: Any, box: str, workers: int, number: int
) -> None:
    world.write(f"SHARED = {str(world.shared)!r}\n{PIPELINE}")
    process = start(world, box, workers)
    wait_for(world.shared, "5.*")
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1, output
    assert re.search(r"interrupted: (Slow\(.*\) (was|were) stopped, )?\d+ tasks were not begun; the same", output)
    made = len([name for name in world.files() if name.startswith("slow-")])
    done = int(output.rsplit("done ", 1)[1])
    # Without a box a task may be killed when it has made its output and not yet said so.
    assert done == made if box == "host" else done <= made <= done + workers
    assert 3 <= made < 30
    assert not [name for name in world.files() if "tmp" in name]
    again = start(world, box, workers)
    output = again.communicate(timeout=120)[0]
    assert again.returncode == 0, output
    assert f"done {31 - made}" in output


STUBBORN = """
import signal

class Stubborn(Task):
    box = Box(binds=[SHARED])

    def run(self):
        signal.signal(signal.SIGTERM, lambda number, frame: open(f"{SHARED}/asked", "w").close())
        with open(f"{SHARED}/here", "w"):
            pass
        while True:
            time.sleep(60)

class Sum(WrapperTask):
    def requires(self):
        return Stubborn()
"""


@pytest.mark.parametrize(("box", "workers"), MODES[1:])
def test_second_interrupt_kills_what_does_not_end(world: Any, box: str, workers: int) -> None:
    world.write(f"SHARED = {str(world.shared)!r}\n{STUBBORN}")
    process = start(world, box, workers)
    wait_for(world.shared, "here")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    wait_for(world.shared, "asked")
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1, output
    assert "interrupted: Stubborn() was stopped, 1 task was not begun; the same command carries on" in output
    assert "1 task stopped" in output
    assert time.monotonic() - began < 4.0, "it waited for the grace time"
