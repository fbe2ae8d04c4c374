"""What starting a box costs from Python, against `bwrap` from Python; and from the command line, against `podman run`.

    started   from the call until the command runs: it is `date`, and says when
    in all    until the call is back: ours with the changes read and the box removed, bwrap's process waited for

Both show `/` with a fresh /proc, /dev and /run, in namespaces of their own for pids, IPC and the host name. Ours makes
it copy-on-write (without root: the home directory, /tmp and so on, and the rest read-only); bwrap 0.11 is asked for the
same, an older one binds `/` and so does less. The two take turns, block by block; medians in milliseconds, and ratios.

podman runs on an overlay of its own over `/` (--rootfs /:O), without an image or a network to set up; it is left out
where it is not installed, and without root.

    python bench/box_start.py                 as the present user; as root also as an ordinary user
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jubako.boxes.commands.launch import run_in_box
from jubako.boxes.state import StateRoot, open_state_root
from jubako.kernel.mount_table import mounts_below, read_mount_table
from jubako.kernel.process import set_dumpable

ORDINARY_USER = 65534
BLOCK = 10
BLOCKS = 8
PATIENCE = 50
COMMAND = ["/bin/date", "+%s%N"]
SOURCE = Path(__file__).parents[1] / "src"
SCRIPT = Path(__file__).parents[1] / "scripts/jubako"


def start_ours(state: StateRoot, output: int) -> None:
    with run_in_box(COMMAND, state=state, stdio=(0, output, 2)) as result:
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


def measure(start: Callable[[int], None]) -> tuple[float, float]:
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


def compare_starts(state: StateRoot, user: str) -> None:
    bwrap = find_bwrap()
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    for block in range(BLOCKS + 1):
        one = [measure(lambda output: start_ours(state, output)) for _ in range(BLOCK)]
        other = [measure(lambda output: start_bwrap(bwrap, output)) for _ in range(BLOCK)]
        if block:  # the first one warms up
            ours += one
            theirs += other
    assert os.listdir(state.boxes_path) == []
    view = "overlay" if "--tmp-overlay" in bwrap else "bind"
    for index, name in enumerate(("started", "in all")):
        a, b = (statistics.median(pair[index] for pair in side) for side in (ours, theirs))
        print(f"{user:9}  {name:8}  ours {a:6.2f}  bwrap ({view}) {b:6.2f}  ratio {a / b:.2f}")


def compare_command_lines(top: str, *, with_podman: bool) -> None:
    """`jubako box run true` as it is installed, and podman's equivalent; the time until it is over."""
    lines = {"jubako": [sys.executable, str(SCRIPT), "box", "run", "true"]}
    if with_podman:
        # Low limits and runc: raising a limit needs CAP_SYS_RESOURCE, and crun refuses a cgroup v1 hybrid.
        limits = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"]
        where = ["--root", f"{top}/p", "--runroot", f"{top}/r", "--cgroup-manager=cgroupfs", "--runtime", "runc"]
        lines["podman"] = ["podman", *where, "run", "--rm", "--net=host", *limits, "--rootfs", "/:O", "true"]
    walls: dict[str, list[float]] = {name: [] for name in lines}
    try:
        for _ in range(BLOCK + 1):
            for name, line in lines.items():
                began = time.perf_counter()
                ended = subprocess.run(line, check=False, capture_output=True, text=True)
                walls[name].append((time.perf_counter() - began) * 1e3)
                if ended.returncode:
                    sys.exit(f"{name} ended with {ended.returncode}: {ended.stderr.strip()}")
    finally:
        if with_podman:
            clean_up_after_podman(top)
    medians = {name: statistics.median(found[1:]) for name, found in walls.items()}
    against = ""
    if with_podman:
        against = f"  podman run {medians['podman']:6.1f}  ratio {medians['jubako'] / medians['podman']:.2f}"
    print(f"command line  in all  ours {medians['jubako']:6.1f}{against}")


def clean_up_after_podman(top: str) -> None:
    """Takes away what podman leaves: its control groups, and its mount if it failed."""
    for mount in reversed(mounts_below(read_mount_table(), top)):
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
        work()
        sys.stdout.flush()
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        sys.exit("the ordinary user's half failed")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="jubako-bench-", dir="/var/tmp") as top:
        os.chmod(top, 0o777)
        os.chdir(top)
        os.environ |= {"PYTHONPATH": str(SOURCE), "JUBAKO_STATE": f"{top}/command-line"}
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled once
        is_root = os.geteuid() == 0
        compare_starts(open_state_root(f"{top}/state"), "root" if is_root else "rootless")
        if is_root:
            as_ordinary_user(lambda: compare_starts(open_state_root(f"{top}/user-state"), "rootless"))
        compare_command_lines(top, with_podman=is_root and all(map(shutil.which, ("podman", "runc"))))


if __name__ == "__main__":
    main()
