"""What scheduling costs, part by part. Each part is a claim, run in its own processes, and said to be reached or not.

    luigi      n dated tasks, each writing one small file, by jubako and by Luigi 3.8.1, both without a box
    dask       the same 3,000 tasks by jubako and by dask.distributed, in one process each
    million    1,000,000 tasks planned, scheduled and recorded; only their run() is a fake (`jubako.testing.simulate`)
    listing    which of 100,000 dated tasks are done, all in one folder

    python bench/flow.py                 all of them (minutes, most of them Luigi's)
    python bench/flow.py listing dask    these two
    python bench/flow.py --luigi 1000    Luigi up to 1,000 tasks only
    python bench/flow.py --folder /tmp   where the files go: a file system in memory unless told otherwise, because a
                                         new file on a disk costs the kernel more than all the rest of a task here

Both sides do the same work on the same file system, each started as its documentation says; what is printed is thrown
away. CPU seconds are those of the process and its children (wait4), interpreter start and imports included. Afterwards
each file's content is compared with what it has to be, on both sides; a case that has not made everything is void and
ends the bench. All files stay until the end: ext4 goes slowly past inodes that were freed a moment ago, which would
charge each case with the removal of the one before.

Luigi at 10,000 tasks would take longer than all the rest. What it would take is extrapolated from two smaller cases by
the exponent between them, and printed as that; start-up is in both, which makes the exponent smaller: in its favour.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FIRST = datetime.date(1700, 1, 1)
OURS = (1_000, 3_000, 10_000, 100_000)
THEIRS = (1_000, 3_000)
WITH_DASK = 3_000
MILLION = 1_000_000
LISTED = 100_000

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
    f"{TASK}\nsys.exit(0 if run(tasks, box='none', state=STATE) else 1)"
)
LUIGI = (
    "import os, warnings; warnings.simplefilter('ignore')\nfrom luigi import DateParameter, LocalTarget, Task, build\n"
    f"{TASK}\nsys.exit(0 if build(tasks, local_scheduler=True) else 1)"
)
# What a LocalTarget does: written aside, renamed into place, the directory made when it turns out to be missing.
DASK = """
import datetime, os
from distributed import Client

def make(date):
    path = f"{FOLDER}/{date.year}/{date}.txt"
    try:
        file = open(path + ".new", "w")
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = open(path + ".new", "w")
    with file:
        file.write(f"{date}\\n")
    os.replace(path + ".new", path)

dates = [datetime.date.fromordinal(FIRST + n) for n in range(COUNT)]
with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
    client.gather(client.map(make, dates))
"""
# 40,000 days, each of which requires its 24 hours.
SIMULATED = """
import datetime, json
from jubako import DateHourParameter, DateParameter, LocalTarget, Task
from jubako.flow.engine.transitions import State
from jubako.testing import simulate

class Hour(Task):
    hour = DateHourParameter()

    def output(self):
        return LocalTarget(f"{FOLDER}/{self.hour:%Y/%m/%d/%H}.csv")

class Day(Task):
    date = DateParameter()

    def requires(self):
        midnight = datetime.datetime.combine(self.date, datetime.time())
        return [Hour(hour=midnight + datetime.timedelta(hours=n)) for n in range(24)]

    def output(self):
        return LocalTarget(f"{FOLDER}/{self.date:%Y/%m/%d}.csv")

simulation = simulate([Day(date=datetime.date.fromordinal(FIRST + n)) for n in range(COUNT // 25)])
print(json.dumps([simulation.engine.count(State.DONE), len({order.task for order in simulation.executor.orders})]))
"""
LISTING = """
import datetime, json, sys, time
from jubako import DateParameter, LocalTarget, Task
from jubako.flow.graph.completeness import find_complete

class Day(Task):
    date = DateParameter()

    def output(self):
        return LocalTarget(f"{FOLDER}/{self.date}.txt")

tasks = [Day(date=datetime.date.fromordinal(FIRST + n)) for n in range(COUNT)]
for task in tasks[::2]:
    open(task.output().path, "w").close()
looks = []
sys.addaudithook(lambda event, args: looks.append(event) if event in ("os.scandir", "os.listdir", "open") else None)
began_s = time.process_time()
done = find_complete(tasks)
print(json.dumps([time.process_time() - began_s, looks, done == tasks[::2]]))
"""


@dataclass(frozen=True)
class Case:
    """One process's figures, and what it printed."""

    count: int
    cpu_s: float
    wall_s: float
    peak_bytes: int
    printed: str


def measure(side: str, program: str, count: int, folder: Path) -> Case:
    """Runs a program that does `count` tasks in a fresh process, with a folder of its own."""
    out = folder / f"{side}-{count}"
    out.mkdir()
    script = folder / f"{side}-{count}.py"
    head = f"FOLDER, FIRST, COUNT, STATE = {str(out)!r}, {FIRST.toordinal()}, {count}, {str(folder / 'state')!r}\n"
    script.write_text(head + program)
    with (folder / f"{side}-{count}.out").open("w+") as printed:
        began_s = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=folder,
            env={**os.environ, "TMPDIR": str(folder)},  # dask makes a folder there, and leaves it
            stdout=printed,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - began_s
        printed.seek(0)
        text = printed.read()
    if process.returncode != 0:
        sys.exit(f"void: {side} with {count} tasks ended with {process.returncode} (see {script})")
    return Case(count, usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss * 1024, text)


def make_files(side: str, program: str, count: int, folder: Path) -> Case:
    """`measure`, for programs that make the files of `count` tasks; then looks if they have."""
    case = measure(side, program, count, folder)
    out = folder / f"{side}-{count}"
    found = {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}
    dates = [FIRST + datetime.timedelta(days=n) for n in range(count)]
    if found != {f"{date.year}/{date}.txt": f"{date}\n" for date in dates}:
        sys.exit(f"void: {out} does not hold what {count} tasks have to make")
    return case


def bench_luigi(folder: Path, asked: argparse.Namespace) -> int:
    theirs: dict[int, Case] = {}
    ours: dict[int, Case] = {}
    head()
    for count in OURS:
        if count in THEIRS and count <= asked.luigi:
            theirs[count] = make_files("luigi", LUIGI, count, folder)
            show("luigi", theirs[count])
        if count <= asked.jubako:
            ours[count] = make_files("jubako", JUBAKO, count, folder)
            show("jubako", ours[count], theirs.get(count))
    missed = 0
    small, large = THEIRS
    if large in ours and large in theirs:
        ratio = theirs[large].cpu_s / ours[large].cpu_s
        missed += say(f"CPU against Luigi at {large:,} tasks: {ratio:.1f} times less", ">= 50", ratio >= 50)
    if 10_000 in ours and large in theirs:
        exponent = math.log(theirs[large].cpu_s / theirs[small].cpu_s) / math.log(large / small)
        cpu_s = theirs[large].cpu_s * (10_000 / large) ** exponent
        ratio = cpu_s / ours[10_000].cpu_s
        print(
            f"Luigi at 10,000 tasks, EXTRAPOLATED: {cpu_s:.0f} s of CPU, by the exponent {exponent:.2f} "
            f"measured from {small:,} ({theirs[small].cpu_s:.2f} s) to {large:,} ({theirs[large].cpu_s:.2f} s)"
        )
        text = f"CPU against Luigi extrapolated to 10,000 tasks: {ratio:.0f} times less"
        missed += say(text, ">= 100", ratio >= 100)
    if 100_000 in ours:
        exponent = math.log10(ours[100_000].cpu_s / ours[10_000].cpu_s)
        missed += say(f"growth exponent from 10,000 to 100,000: {exponent:.2f}", "< 1.1", exponent < 1.1)
        each = (ours[100_000].peak_bytes - ours[1_000].peak_bytes) / 99_000
        missed += say(f"memory per task: {each:.0f} bytes", "< 2048", each < 2048)
    return missed


def bench_dask(folder: Path, asked: argparse.Namespace) -> int:
    head()
    theirs = make_files("dask", DASK, WITH_DASK, folder)
    show("dask", theirs)
    ours = make_files("jubako-beside-dask", JUBAKO, WITH_DASK, folder)
    show("jubako", ours, theirs)
    ratio = theirs.cpu_s / ours.cpu_s
    return say(f"CPU against dask.distributed at {WITH_DASK:,} tasks: {ratio:.1f} times less", ">= 5", ratio >= 5)


def bench_million(folder: Path, asked: argparse.Namespace) -> int:
    head()
    case = measure("simulated", SIMULATED, MILLION, folder)
    if json.loads(case.printed) != [MILLION, MILLION]:
        sys.exit(f"void: (tasks done, tasks run) are {case.printed}")
    show("jubako", case)
    missed = say(f"{MILLION:,} tasks simulated in {case.wall_s:.0f} s", "< 120", case.wall_s < 120)
    return missed + say(f"in {case.peak_bytes / 1e9:.2f} GB", "< 2", case.peak_bytes < 2e9)


def bench_listing(folder: Path, asked: argparse.Namespace) -> int:
    cpu_s, looks, is_right = json.loads(measure("listing", LISTING, LISTED, folder).printed)
    if not is_right:
        sys.exit("void: the tasks that are said to be done are others than those whose files are there")
    missed = say(f"completeness of {LISTED:,} dated targets in one folder: {cpu_s:.2f} s of CPU", "< 1", cpu_s < 1)
    return missed + say(f"directories and files opened for it: {len(looks)}", "1 listing", looks == ["os.scandir"])


PARTS: dict[str, Callable[[Path, argparse.Namespace], int]] = {
    "luigi": bench_luigi,
    "dask": bench_dask,
    "million": bench_million,
    "listing": bench_listing,
}


def head() -> None:
    print(f"{'tasks':>9}  {'side':<8}{'CPU s':>9}{'wall s':>9}{'peak MB':>9}{'us CPU/task':>13}{'ratio':>8}")


def show(side: str, case: Case, peer: Case | None = None) -> None:
    ratio = f"{peer.cpu_s / case.cpu_s:7.1f}x" if peer else ""
    figures = f"{case.cpu_s:>9.2f}{case.wall_s:>9.2f}{case.peak_bytes / 1e6:>9.1f}"
    print(f"{case.count:>9,}  {side:<8}{figures}{case.cpu_s / case.count * 1e6:>13.0f}{ratio}", flush=True)


def say(text: str, goal: str, reached: bool) -> int:
    print(f"{text} (goal {goal}): {'reached' if reached else 'MISSED'}", flush=True)
    return 0 if reached else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="What scheduling costs, as ratios and against limits.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--luigi", type=int, default=max(THEIRS), help="the most tasks for Luigi (default 3000)")
    parser.add_argument("--jubako", type=int, default=max(OURS), help="the most tasks for jubako (default 100000)")
    parser.add_argument("--folder", help="where the files go; a fresh directory in it is used and removed")
    asked = parser.parse_args()
    unknown = [part for part in asked.parts if part not in PARTS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: the parts are {', '.join(PARTS)}")
    above = asked.folder or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())
    print(f"files and state in {above}; Python {sys.version.split()[0]}; durability full")
    missed = 0
    with tempfile.TemporaryDirectory(prefix="jubako-bench-", dir=above) as name:
        for part, bench in PARTS.items():
            if part in (asked.parts or PARTS):
                print(f"\n{part}")
                missed += bench(Path(name), asked)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
