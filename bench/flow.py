"""What scheduling costs: n dated tasks, each writing one small file, by jubako and by Luigi 3.8.1, both without a box.

Every case runs in a process of its own, on the same folder's file system, with the same task, each side started as its
documentation says; what it prints is thrown away. CPU seconds are those of the process and its children (wait4),
interpreter start and imports included. Afterwards each file's content is compared with what it has to be, on both
sides; a case that has not made everything is void and ends the bench. All files stay until the end: ext4 goes slowly
past inodes that were freed a moment ago, which would charge each case with the removal of the one before.

    python bench/flow.py                 the whole table (minutes, nearly all of them Luigi's)
    python bench/flow.py --luigi 1000    Luigi up to 1,000 tasks only
    python bench/flow.py --folder /tmp   where the files go: a file system in memory unless told otherwise, because a
                                         new file on a disk costs the kernel more than all the rest of a task here

Prints per n: CPU, wall, peak memory; the ratio of CPU where Luigi has run too; the growth exponent of our CPU from
10,000 to 100,000 tasks; memory per task. Goals: ratio at least 50 at 3,000, exponent under 1.1, under 2 KB a task.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

FIRST = datetime.date(1700, 1, 1)
OURS = (1_000, 3_000, 10_000, 100_000)
THEIRS = (1_000, 3_000)
GOAL_RATIO, GOAL_EXPONENT, GOAL_BYTES = 50.0, 1.1, 2048.0

# The two programs differ in the import and in how the run is started, in nothing else.
TASK = """
import datetime, sys

class Day(Task):
    date = DateParameter()

    def output(self):
        return LocalTarget(f"{FOLDER}/{self.date.year}/{self.date}.txt")

    def run(self):
        with self.output().open("w") as file:
            file.write(f"{self.date}\\n")

tasks = [Day(date=datetime.date.fromordinal(FIRST + n)) for n in range(COUNT)]
"""
JUBAKO = (
    "from jubako import DateParameter, LocalTarget, Task, run\n"
    "{head}{task}\nsys.exit(0 if run(tasks, {options}) else 1)"
)
LUIGI = (
    "import os, warnings; warnings.simplefilter('ignore')\nfrom luigi import DateParameter, LocalTarget, Task, build\n"
    "{head}{task}\nsys.exit(0 if build(tasks, local_scheduler=True) else 1)"
)


@dataclass(frozen=True)
class Case:
    """One process's figures."""

    count: int
    cpu_s: float
    wall_s: float
    peak_bytes: int


def measure(side: str, count: int, folder: Path) -> Case:
    """Runs `count` tasks in a fresh process and folder, and checks every file."""
    out = folder / f"{side}-{count}"
    out.mkdir()
    head = f"FOLDER, FIRST, COUNT = {str(out)!r}, {FIRST.toordinal()}, {count}\n"
    options = f"box='none', state={str(folder / 'state')!r}"
    text = (JUBAKO if side == "jubako" else LUIGI).format(head=head, task=TASK, options=options)
    script = folder / f"{side}-{count}.py"
    script.write_text(text)
    began_s = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(script)], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - began_s
    if process.returncode != 0:
        sys.exit(f"void: {side} with {count} tasks ended with {process.returncode} (see {script})")
    verify(out, count)
    return Case(count, usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss * 1024)


def verify(out: Path, count: int) -> None:
    """Ends the bench unless exactly the right files are there, each with the right content."""
    found = {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}
    dates = [FIRST + datetime.timedelta(days=n) for n in range(count)]
    if found != {f"{date.year}/{date}.txt": f"{date}\n" for date in dates}:
        sys.exit(f"void: {out} does not hold what {count} tasks have to make")


def main() -> int:
    parser = argparse.ArgumentParser(description="Scheduling cost against Luigi, as ratios.")
    parser.add_argument("--luigi", type=int, default=max(THEIRS), help="the most tasks for Luigi (default 3000)")
    parser.add_argument("--jubako", type=int, default=max(OURS), help="the most tasks for jubako (default 100000)")
    parser.add_argument("--folder", help="where the files go; a fresh directory in it is used and removed")
    given = parser.parse_args()
    above = given.folder or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())
    theirs: dict[int, Case] = {}
    ours: dict[int, Case] = {}
    print(f"files and state in {above}; Python {sys.version.split()[0]}; durability full")
    print(f"{'tasks':>8}  {'side':<8}{'CPU s':>9}{'wall s':>9}{'peak MB':>9}{'us CPU/task':>13}{'ratio':>8}")
    with tempfile.TemporaryDirectory(prefix="jubako-bench-", dir=above) as name:
        for count in OURS:
            if count in THEIRS and count <= given.luigi:
                theirs[count] = measure("luigi", count, Path(name))
                show("luigi", theirs[count])
            if count <= given.jubako:
                ours[count] = measure("jubako", count, Path(name))
                show("jubako", ours[count], theirs.get(count))
    return judge(ours, theirs)


def show(side: str, case: Case, peer: Case | None = None) -> None:
    ratio = f"{peer.cpu_s / case.cpu_s:7.1f}x" if peer else ""
    figures = f"{case.cpu_s:>9.2f}{case.wall_s:>9.2f}{case.peak_bytes / 1e6:>9.1f}"
    print(f"{case.count:>8,}  {side:<8}{figures}{case.cpu_s / case.count * 1e6:>13.0f}{ratio}", flush=True)


def judge(ours: dict[int, Case], theirs: dict[int, Case]) -> int:
    """Says what was reached; 1 if a goal was missed."""
    missed = 0
    if 3_000 in ours and 3_000 in theirs:
        ratio = theirs[3_000].cpu_s / ours[3_000].cpu_s
        missed += say(
            f"CPU against Luigi at 3,000 tasks: {ratio:.1f} times less", f">= {GOAL_RATIO:g}", ratio >= GOAL_RATIO
        )
    if 100_000 in ours:
        exponent = math.log10(ours[100_000].cpu_s / ours[10_000].cpu_s)
        missed += say(
            f"growth exponent from 10,000 to 100,000: {exponent:.2f}", f"< {GOAL_EXPONENT:g}", exponent < GOAL_EXPONENT
        )
        each = (ours[100_000].peak_bytes - ours[1_000].peak_bytes) / 99_000
        missed += say(f"memory per task: {each:.0f} bytes", f"< {GOAL_BYTES:g}", each < GOAL_BYTES)
    return 1 if missed else 0


def say(text: str, goal: str, reached: bool) -> int:
    print(f"{text} (goal {goal}): {'reached' if reached else 'MISSED'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
