"""What starting a box costs: from Python against `bwrap` and a C program, from the command line against engines.

    direct          run_in_box: it forks this process
    server          BoxServer: boxes are made ahead by a small process; one command after the other
    bwrap           started by this process, as a program that uses it would
    ..., rested     with 50 ms between one command and the next: a box of the server's is waiting then, and processors
                    that had nothing to do may be slow to wake, for all
    floor           bench/floor.c: clone, overlay, mounts, pivot, exec, wait in C, with no policy; timed inside

    started   from the call until the command runs: it is `date`, and says when
    in all    until the call is back: ours with the changes read, bwrap's process waited for

All show `/` with a fresh /proc, /dev and /run, in namespaces of their own for pids, IPC and the host name. Ours makes
it copy-on-write (without root: the home directory, /tmp and so on, and the rest read-only); bwrap 0.11 is asked for the
same, an older one binds `/` and so does less. They take turns, block by block; medians in milliseconds, and ratios.
`cpu` is the processor time of a whole start, what was made ahead and taken away afterwards included.

podman and runc run on an overlay over `/`, without an image or a network to set up; they are left out where they are
not installed, and without root.

    python bench/box_start.py                 as the present user; as root also as an ordinary user
    python bench/box_start.py --folder DIR    with the boxes' files on another file system than that of /var/tmp
    python bench/box_start.py --sustained     100 boxes a second for a minute, and 500 alive at once

A box makes seven to twenty files there and takes them away. ext4 without a journal passes over each file that was
removed within the last minute when it makes one: back to back there, boxes cost up to three times as much.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jubako.boxes.commands.launch import run_in_box
from jubako.boxes.serving.client import BoxServer
from jubako.boxes.state import StateRoot, open_state_root
from jubako.kernel.mount_table import mounts_below, read_mount_table
from jubako.kernel.process import set_dumpable

ORDINARY_USER = 65534
BLOCK = 10
BLOCKS = 8
REST_S = 0.05
BALLAST_MB = (0, 100, 400)
RATE = 100
RATE_S = 60
ALIVE = 500
PATIENCE = 50
COMMAND = ["/bin/date", "+%s%N"]
SOURCE = Path(__file__).parents[1] / "src"
SCRIPT = Path(__file__).parents[1] / "scripts/jubako"
Start = Callable[[int], None]  # runs COMMAND with its output to a descriptor


def start_direct(state: StateRoot, output: int) -> None:
    with run_in_box(COMMAND, state=state, stdio=(0, output, 2)) as result:
        assert result.exit_status == 0
        assert result.changes == ()


def start_served(boxes: BoxServer, output: int) -> None:
    with boxes.run(COMMAND, stdio=(0, output, 2)) as result:
        assert result.exit_status == 0
        assert result.changes == ()


def start_bwrap(bwrap: list[str], output: int) -> None:
    subprocess.run([*bwrap, *COMMAND], stdout=output, check=True)


def find_bwrap() -> list[str]:
    found = shutil.which("bwrap")
    if found is None:
        sys.exit("bwrap is missing: apt-get install bubblewrap")
    has_overlay = (
        "--tmp-overlay" in subprocess.run([found, "--help"], capture_output=True, text=True, check=False).stdout
    )
    root = ["--overlay-src", "/", "--tmp-overlay", "/"] if has_overlay else ["--bind", "/", "/"]
    view = ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run"]
    return [found, *root, *view, "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]


def measure(start: Start) -> tuple[float, float]:
    """Milliseconds until the command ran, and until the call was back."""
    read_end, write_end = os.pipe()
    began_ns = time.time_ns()
    began = time.perf_counter()
    start(write_end)
    in_all = (time.perf_counter() - began) * 1e3
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        ran_ns = int(pipe.read())
    return (ran_ns - began_ns) / 1e6, in_all


def run_floor(top: str) -> float:
    """The median milliseconds of a block of starts by the C program."""
    with tempfile.TemporaryDirectory(dir=top) as directory:
        os.mkdir(f"{directory}/covered")
        is_root = os.geteuid() == 0
        covered = "/" if is_root else f"{directory}/covered"
        line = [f"{top}/floor", covered, directory, str(int(not is_root)), str(BLOCK), COMMAND[0]]
        said = subprocess.run(line, capture_output=True, text=True, check=True).stdout
        rounds = [int(word) / 1e3 for word in said.splitlines() if word.isdecimal() and len(word) < 10]
        subprocess.run(["chmod", "-R", "u+rwx", directory], check=True)  # overlayfs's own directories have mode 0
    assert len(rounds) == BLOCK
    return statistics.median(rounds)


def compare_starts(state: StateRoot, top: str, user: str) -> None:
    bwrap = find_bwrap()
    view = "overlay" if "--tmp-overlay" in bwrap else "bind"
    for ballast_mb in BALLAST_MB:
        ballast = load(ballast_mb)
        with BoxServer(state=state) as boxes:
            starts: dict[str, Start] = {
                "direct": lambda output: start_direct(state, output),
                "server": lambda output, boxes=boxes: start_served(boxes, output),  # type: ignore[misc]
                "server, rested": lambda output, boxes=boxes: start_served(boxes, output),  # type: ignore[misc]
                "bwrap": lambda output: start_bwrap(bwrap, output),
                "bwrap, rested": lambda output: start_bwrap(bwrap, output),
            }
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in starts}
            floors = []
            for block in range(BLOCKS + 1):
                for name, start in starts.items():
                    one = []
                    for _ in range(BLOCK):
                        if name.endswith("rested"):
                            time.sleep(REST_S)
                        one.append(measure(start))
                    found[name] += one if block else []  # the first one warms up
                floors.append(run_floor(top))
        floor = statistics.median(floors)
        for name in starts:
            peer = "bwrap, rested" if name.endswith("rested") else "bwrap"
            theirs = [statistics.median(pair[index] for pair in found[peer]) for index in (0, 1)]
            ours = [statistics.median(pair[index] for pair in found[name]) for index in (0, 1)]
            started, in_all = (f"{a:6.2f} ({a / b:.2f} of bwrap" for a, b in zip(ours, theirs, strict=True))
            against_floor = f"{ours[1] / floor:.2f} of floor {floor:.2f}"
            print(
                f"{user:9} {ballast_mb:3} MB  {name:15} started {started} {view})  in all {in_all}, {against_floor})",
                flush=True,
            )
        del ballast
    print(f"{user:9} cpu a start: {cpu_of_starts(state, bwrap)}")
    assert os.listdir(state.boxes_path) == []


def load(megabytes: int) -> list[bytearray]:
    """As much memory, touched, so that a fork has page tables to copy."""
    blocks = [bytearray(1 << 20) for _ in range(megabytes)]
    for block in blocks:
        block[::4096] = b"x" * len(block[::4096])
    return blocks


def cpu_of_starts(state: StateRoot, bwrap: list[str]) -> str:
    """The processor time of one start each way, with all that belongs to it."""
    rounds = BLOCK * BLOCKS
    null = os.open(os.devnull, os.O_WRONLY)
    said = []

    def add(name: str, started: Callable[[], Iterator[Start]]) -> None:
        once, many = (used_cpu(lambda count=count: run_often(started, count)) for count in (1, rounds + 1))  # type: ignore[misc]
        said.append(f"{name} {(many - once) / rounds * 1e3:.2f} ms")

    def run_often(started: Callable[[], Iterator[Start]], count: int) -> None:
        for start in started():
            for _ in range(count):
                start(null)

    def serve() -> Iterator[Start]:
        with BoxServer(state=state) as boxes:
            yield lambda output: start_served(boxes, output)

    add("direct", lambda: iter([lambda output: start_direct(state, output)]))
    add("server", serve)
    add("bwrap", lambda: iter([lambda output: start_bwrap(bwrap, output)]))
    os.close(null)
    return ", ".join(said)


def used_cpu(work: Callable[[], None]) -> float:
    """Seconds of processor time that `work` takes, in this process and those it starts and waits for."""

    def total() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    before = total()
    work()
    return total() - before


def sustain(state: StateRoot, user: str) -> None:
    """A fixed rate for a minute; then many at once. Nothing may be left of either."""
    with BoxServer(state=state) as boxes:
        boxes.run(["true"]).close()
        began = time.perf_counter()
        late_s = 0.0
        for number in range(RATE * RATE_S):
            due = began + number / RATE
            late_s = max(late_s, time.perf_counter() - due)
            time.sleep(max(0.0, due - time.perf_counter()))
            with boxes.run(["true"]) as result:
                assert result.exit_status == 0
        took_s = time.perf_counter() - began
        rate = RATE * RATE_S / took_s
        print(f"{user:9} {RATE * RATE_S} boxes, {rate:.1f} a second, a start at most {late_s:.2f} s late", flush=True)
        began = time.perf_counter()
        alive = [boxes.popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(ALIVE)]
        for process in alive:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"here\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"here\n"
        took_s = time.perf_counter() - began
        assert all(process.poll() is None for process in alive)
        print(f"{user:9} {ALIVE} boxes alive at once after {took_s:.1f} s")
        for process in alive:
            process.close()
    assert os.listdir(state.boxes_path) == []


def compare_command_lines(top: str, *, with_engines: bool) -> None:
    """`jubako box run true` as it is installed, and the engines' equivalents; the time until it is over."""
    lines = {"jubako": [sys.executable, str(SCRIPT), "box", "run", "true"]}
    if with_engines:
        # Low limits and runc: raising a limit needs CAP_SYS_RESOURCE, and crun refuses a cgroup v1 hybrid.
        limits = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"]
        where = ["--root", f"{top}/p", "--runroot", f"{top}/r", "--cgroup-manager=cgroupfs", "--runtime", "runc"]
        lines["podman run"] = ["podman", *where, "run", "--rm", "--net=host", *limits, "--rootfs", "/:O", "true"]
        lines["runc run"] = ["runc", "--root", f"{top}/runc", "run", "--bundle", f"{top}/bundle", "jubako-bench"]
    walls: dict[str, list[float]] = {name: [] for name in lines}
    with runc_bundle(top) if with_engines else tempfile.TemporaryDirectory(dir=top):
        try:
            for _ in range(BLOCK + 1):
                for name, line in lines.items():
                    began = time.perf_counter()
                    ended = subprocess.run(line, check=False, capture_output=True, text=True)
                    walls[name].append((time.perf_counter() - began) * 1e3)
                    if ended.returncode:
                        sys.exit(f"{name} ended with {ended.returncode}: {ended.stderr.strip()}")
        finally:
            if with_engines:
                clean_up_after_podman(top)
    medians = {name: statistics.median(found[1:]) for name, found in walls.items()}
    ours = medians.pop("jubako")
    against = "".join(f"  {name} {theirs:6.1f} (ratio {ours / theirs:.2f})" for name, theirs in medians.items())
    print(f"command line  in all  ours {ours:6.1f}{against}")


@contextmanager
def runc_bundle(top: str) -> Iterator[None]:
    """A bundle whose root is an overlay of `/`, mounted for the time of the block."""
    bundle = f"{top}/bundle"
    for name in ("", "/rootfs", "/upper", "/work"):
        os.mkdir(bundle + name)
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    config = json.loads(Path(bundle, "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["true"], "rlimits": []}
    config["root"]["readonly"] = False
    config["linux"]["namespaces"] = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
    Path(bundle, "config.json").write_text(json.dumps(config))
    options = f"lowerdir=/,upperdir={bundle}/upper,workdir={bundle}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, f"{bundle}/rootfs"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", f"{bundle}/rootfs"], check=True)


def clean_up_after_podman(top: str) -> None:
    """Takes away what podman leaves: its control groups, and its mount if it failed."""
    for mount in reversed(mounts_below(read_mount_table(), f"{top}/p")):
        subprocess.run(["umount", mount.mount_point], check=True)
    for group in Path("/sys/fs/cgroup").glob("*/libpod_parent"):
        for left in sorted([group, *group.rglob("*/")], reverse=True):
            for _ in range(PATIENCE):  # its monitor ends a moment after it
                try:
                    left.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)


def as_ordinary_user(work: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(ORDINARY_USER, ORDINARY_USER, ORDINARY_USER)
        os.setresuid(ORDINARY_USER, ORDINARY_USER, ORDINARY_USER)
        set_dumpable(dumpable=True)  # giving up root made /proc/self root's
        if not os.access(os.path.realpath(sys.executable), os.X_OK):
            sys.executable = "/usr/bin/python3"  # for the server; it needs no more than the standard library
        work()
        sys.stdout.flush()
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        sys.exit("the ordinary user's half failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sustained", action="store_true", help="a rate for a minute, and many alive at once")
    parser.add_argument("--folder", default="/var/tmp", help="where the boxes' files are (/var/tmp)")
    arguments = parser.parse_args()
    sustained = arguments.sustained
    with tempfile.TemporaryDirectory(prefix="jubako-bench-", dir=arguments.folder) as top:
        os.chmod(top, 0o777)
        os.environ |= {"PYTHONPATH": str(SOURCE), "JUBAKO_STATE": f"{top}/command-line"}
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled once
        subprocess.run(["cc", "-O2", "-o", f"{top}/floor", str(Path(__file__).with_name("floor.c"))], check=True)
        is_root = os.geteuid() == 0

        def compare(folder: str, user: str) -> None:
            os.makedirs(f"{top}/{folder}")
            os.chdir(f"{top}/{folder}")  # this user's own, which needs no overlay of its own without root
            state = open_state_root(f"{top}/{folder}/state")
            if sustained:
                sustain(state, user)
            else:
                compare_starts(state, top, user)

        compare("state", "root" if is_root else "rootless")
        if is_root:
            as_ordinary_user(lambda: compare("user-state", "rootless"))
        if not sustained:
            compare_command_lines(top, with_engines=is_root and all(map(shutil.which, ("podman", "runc"))))


if __name__ == "__main__":
    main()
