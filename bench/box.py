"""What a box costs: a boxed Python task against a bare fork + write + rename + wait, in one process tree.

Ours counts from the call to published: staging, job to the worker, view, fork, the task, teardown, changes read,
journal, rename, staging directory gone (relaxed durability). The peer is a process of the same size that forks, writes
the same bytes to a temporary file, renames it and waits. Both sides' files are compared afterwards; a stray write of a
boxed task has to be reported; the state folder has to be empty. The two take turns, block by block.

    python bench/box.py                 as the present user; as root also as an ordinary user
    python bench/box.py --ballast 100   only with so many MB loaded by the pipeline
    python bench/box.py --folder /mnt   on another file system; tops on disk cost a multiple on ext4 without a journal,
                                        which passes inodes that were freed in the last minutes one by one

An overlay covers the working directory, the home directory and /tmp: two where the project is below the home directory,
as it mostly is, three where it is elsewhere.

Prints per case: wall medians and their ratio, CPU per task and the difference.
"""

from __future__ import annotations

import argparse
import os
import pickle
import resource
import shutil
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jubako.boxes.job import Finished, Job
from jubako.boxes.spec import Box, Output
from jubako.boxes.state import open_state_root
from jubako.boxes.transactions.database import open_database
from jubako.boxes.transactions.journal import Journal
from jubako.boxes.transactions.publish import Move, Published, Publisher, Transaction
from jubako.boxes.transactions.stage import StageArea
from jubako.boxes.workers.worker import Worker
from jubako.kernel.mount_table import find_mount, read_mount_table

CONTENT = b"the same hundred bytes on both sides of the comparison; nothing is read, nothing is computed, hm\n"
ORDINARY_USER = 65534
BLOCK = 25
_ballast: list[bytearray] = []


def load_ballast(argument: bytes) -> None:
    """The preload: what importing a pipeline with `argument` MB of libraries leaves in memory."""
    megabytes = int(argument)
    for _ in range(megabytes):
        block = bytearray(1 << 20)
        block[::4096] = b"x" * len(block[::4096])  # touched, so that a fork has page tables to copy
        _ballast.append(block)


def write_one(payload: bytes) -> bytes:
    """The boxed task: writes its one declared output where it is staged; with a stray write if asked."""
    from jubako.boxes import inside

    path, stray = pickle.loads(payload)
    staged = inside.staged_path(path)
    assert staged is not None
    with open(staged, "wb") as file:
        file.write(CONTENT)
    inside.expose(path)
    if stray:
        Path(stray).write_bytes(b"stray")
    return b""


def bare_one(folder: str, number: int) -> None:
    pid = os.fork()
    if pid == 0:
        with open(f"{folder}/{number}.tmp", "wb") as file:
            file.write(CONTENT)
        os.rename(f"{folder}/{number}.tmp", f"{folder}/{number}")
        os._exit(0)
    os.waitpid(pid, 0)


class Bare:
    """The peer, in a process of its own that has the same ballast; asked for blocks through a pipe."""

    def __init__(self, folder: str, ballast: int) -> None:
        ask_read, self._ask = os.pipe()
        self._answer, answer_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._ask)
            os.close(self._answer)
            load_ballast(b"%d" % ballast)
            os.write(answer_write, b"r")
            while request := os.read(ask_read, 8):
                first, count = struct.unpack("ii", request)
                cpu = own_cpu()
                walls = []
                for number in range(first, first + count):
                    began = time.perf_counter()
                    bare_one(folder, number)
                    walls.append(time.perf_counter() - began)
                os.write(answer_write, pickle.dumps((walls, own_cpu() - cpu)))
            os._exit(0)
        os.close(ask_read)
        os.close(answer_write)
        os.read(self._answer, 1)

    def block(self, first: int, count: int) -> tuple[list[float], float]:
        os.write(self._ask, struct.pack("ii", first, count))
        answer: tuple[list[float], float] = pickle.loads(os.read(self._answer, 1 << 16))
        return answer

    def close(self) -> None:
        os.close(self._ask)
        os.close(self._answer)
        os.waitpid(self.pid, 0)


class Ours:
    """The boxed side: worker, staging area, publisher, as a run has them."""

    def __init__(self, folder: str, state_path: str, ballast: int, box: Box, peer_pid: int) -> None:
        self._folder, self._box, self._peer_pid = folder, box, peer_pid
        self._state = open_state_root(state_path)
        self._connection = open_database(self._state.ledger_path, durability="relaxed")
        journal = Journal(self._connection)
        self._area = StageArea(self._state, "bench", journal)
        self._publisher = Publisher(journal, "relaxed")
        self._worker = Worker.start(
            f"{__name__}:load_ballast",
            b"%d" % ballast,
            hidden=[state_path],
            scratch_root=f"{self._state.stage_path}/bench",
            cwd=folder,
        )
        self._worker.wait_until_ready()
        self.undeclared: list[str] = []

    def one(self, number: int, stray: str = "") -> None:
        path = f"{self._folder}/{number}"
        staged = self._area.stage(str(number), [Output(path)])
        call = f"{__name__}:write_one"
        self._worker.submit(
            Job(
                str(number),
                f"task {number}",
                call,
                pickle.dumps((path, stray)),
                staged,
                box=self._box,
                cwd=self._folder,
            )
        )
        finished = self._finish()
        assert finished.outcome == "ok", finished.error
        moves = tuple(Move(output.staged, output.path, None) for output in finished.staged)
        assert len(moves) == 1, finished
        [outcome] = self._publisher.publish([Transaction(str(number), f"task {number}", moves)])
        assert isinstance(outcome, Published), outcome
        self._area.release(str(number))
        self.undeclared += [change.path for change in finished.undeclared]

    def _finish(self) -> Finished:
        import select

        while True:
            select.select([self._worker.fileno()], [], [])
            for event in self._worker.receive():
                if isinstance(event, Finished):
                    return event

    def cpu(self) -> float:
        return own_cpu() + sum(tree_cpu(pid) for pid in children_of(os.getpid()) if pid != self._peer_pid)

    def close(self) -> None:
        self._worker.close()
        self._area.close()
        self._connection.close()
        assert os.listdir(self._state.stage_path) == [], "the state folder is not empty"


def own_cpu() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process, the children it has waited for, and its living children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK") + sum(tree_cpu(child) for child in children_of(pid))


def measure(title: str, root: Path, *, tasks: int, ballast: int, box: Box, state: Path | None = None) -> None:
    """One case, its files in `root`; `state` is where tops on disk are, below `root` unless told otherwise."""
    ours_folder, bare_folder = root / "ours", root / "bare"
    ours_folder.mkdir(parents=True)
    bare_folder.mkdir()
    bare = Bare(str(bare_folder), ballast)
    ours = Ours(str(ours_folder), str(state or root / "state"), ballast, box, bare.pid)
    try:
        ours_walls, bare_walls, ours_cpu, bare_cpu = [], [], 0.0, 0.0
        ours.one(-1)
        bare.block(-1, 1)
        for first in range(0, tasks, BLOCK):
            walls, cpu = bare.block(first, BLOCK)
            bare_walls += walls
            bare_cpu += cpu
            before = ours.cpu()
            for number in range(first, first + BLOCK):
                began = time.perf_counter()
                ours.one(number)
                ours_walls.append(time.perf_counter() - began)
            ours_cpu += ours.cpu() - before
        assert ours.undeclared == [], ours.undeclared
        ours.one(-2, stray=str(ours_folder / "stray"))
        bare_one(str(bare_folder), -2)
        assert ours.undeclared == [str(ours_folder / "stray")], "a stray write was not reported"
    finally:
        ours.close()
        bare.close()
    same = {path.name: path.read_bytes() for path in ours_folder.iterdir()}
    assert same == {path.name: path.read_bytes() for path in bare_folder.iterdir()}
    assert len(same) == tasks + 2
    a, b = statistics.median(ours_walls) * 1e3, statistics.median(bare_walls) * 1e3
    cpu_a, cpu_b = ours_cpu / tasks * 1e3, bare_cpu / tasks * 1e3
    print(
        f"{title:<46} boxed {a:6.2f} ms   bare {b:6.2f} ms   ratio {a / b:5.2f}   "
        f"CPU {cpu_a:5.2f} - {cpu_b:5.2f} = {cpu_a - cpu_b:+5.2f} ms",
        flush=True,
    )


def measure_all(who: str, root: Path, arguments: argparse.Namespace) -> None:
    sizes = [arguments.ballast] if arguments.ballast is not None else [0, 100, 400]
    disk = Box(scratch="disk")
    elsewhere = root / "home"
    elsewhere.mkdir()
    for ballast in sizes:
        tasks = arguments.tasks if ballast < 100 else max(BLOCK, arguments.tasks // 4)
        title = f"{who}, {ballast} MB loaded"
        with home_directory(str(root)):
            measure(f"{title}, two overlays", root / f"two{ballast}", tasks=tasks, ballast=ballast, box=Box())
        with home_directory(str(elsewhere)):
            measure(f"{title}, three overlays", root / f"three{ballast}", tasks=tasks, ballast=ballast, box=Box())
            if ballast == 0:
                measure(f"{title}, three on disk", root / "disk", tasks=tasks, ballast=ballast, box=disk)
        if ballast == 0:
            # One overlay covers all three directories where they are one: below /tmp.
            with tempfile.TemporaryDirectory(prefix="jubako-bench-", dir="/tmp") as one, home_directory(one):
                state = root / "one"
                measure(f"{title}, one on disk", Path(one, "one"), tasks=tasks, ballast=ballast, box=disk, state=state)


@contextmanager
def home_directory(path: str) -> Iterator[None]:
    before = os.environ.get("HOME", "/")
    os.environ["HOME"] = path
    try:
        yield
    finally:
        os.environ["HOME"] = before


def as_ordinary_user(root: Path, arguments: argparse.Namespace) -> None:
    """The same as a user who may do nothing special, in a forked child."""
    shutil.copytree(Path(__file__).parents[1] / "src" / "jubako", root / "source" / "jubako")
    shutil.copy(__file__, root / "source" / "box.py")
    os.chown(root, ORDINARY_USER, ORDINARY_USER)
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(ORDINARY_USER, ORDINARY_USER, ORDINARY_USER)
        os.setresuid(ORDINARY_USER, ORDINARY_USER, ORDINARY_USER)
        os.environ.update(HOME=str(root), PYTHONPATH=str(root / "source"))
        code = "import sys; import box; box.main([*sys.argv[1:], '--inner'])"
        python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
        os.chdir(root)
        os.execv(python, [python, "-c", code, f"--tasks={arguments.tasks}", *ballast_option(arguments)])
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("the ordinary user's measurement failed")


def ballast_option(arguments: argparse.Namespace) -> list[str]:
    return [] if arguments.ballast is None else [f"--ballast={arguments.ballast}"]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=400, help="tasks per case, rounded to blocks (default 400)")
    parser.add_argument("--ballast", type=int, default=None, help="MB the pipeline has loaded (default: 0, 100, 400)")
    parser.add_argument("--folder", default="/var/tmp", help="where everything is; tops on disk are there (/var/tmp)")
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    arguments.tasks = max(BLOCK, arguments.tasks - arguments.tasks % BLOCK)
    root = Path(tempfile.mkdtemp(prefix="jubako-bench-", dir=os.getcwd() if arguments.inner else arguments.folder))
    try:
        root.chmod(0o755)
        who = "root" if os.getuid() == 0 else "rootless"
        if not arguments.inner:
            mount = find_mount(read_mount_table(), str(root))
            print(f"relaxed durability; in {root}, {mount.fstype if mount else 'unknown'}")
        measure_all(who, root, arguments)
        if os.getuid() == 0:
            (root / "user").mkdir()
            as_ordinary_user(root / "user", arguments)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    # The worker imports this file by its name.
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    import box

    box.main()
