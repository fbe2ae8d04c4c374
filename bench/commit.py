"""What it costs to read what a box changed, and to commit it: files a second, and the memory it takes.

    python bench/commit.py                 as the present user; as root also as an ordinary user
    python bench/commit.py --files 20000   fewer files
    python bench/commit.py --folder /mnt   on another file system; the state root and the files are both there

Three shapes, each made by a real command in a real box:

    new        new files of 12 bytes in 100 new directories
    in place   as many files that the machine has, in 100 directories it has, each overwritten by as many bytes
    deleted    as many files that the machine has, deleted one by one; their directories stay

Files a second are by the clock; in brackets, by the processor time that this took, which other load does not stretch.
"changes" compares the upper directory with the machine as `jubako box changes` does; "commit" publishes it, from its
first look at the machine to the old versions gone, durability full. The megabytes after each are the most that it took
beside what the process had when it began. Afterwards every file is read and compared.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from jubako.boxes.commands.launch import run_in_box
from jubako.boxes.keeping.changes import read_box_changes
from jubako.boxes.state import open_state_root
from jubako.kernel.mount_table import find_mount, read_mount_table
from jubako.layers.change import Change

FOLDERS = 100
ORDINARY_USER = 65534
OLD, NEW = "before this\n", "after that.\n"
CHANGE = """
import os, sys
for folder in range(100):
    os.makedirs(f"tree/{folder}", exist_ok=True)
    for number in range(int(sys.argv[1]) // 100):
        if sys.argv[2] == "deleted":
            os.unlink(f"tree/{folder}/{number}")
            continue
        with open(f"tree/{folder}/{number}", "x" if sys.argv[2] == "new" else "r+") as file:
            file.write("after that.\\n")
"""
SHAPES = ("new", "in place", "deleted")


def write_old(files: int) -> None:
    """The machine's version of all files, in the working directory."""
    for folder in range(FOLDERS):
        os.makedirs(f"tree/{folder}")
        for number in range(files // FOLDERS):
            Path(f"tree/{folder}/{number}").write_text(OLD)


def measure(who: str, shape: str, root: Path, files: int) -> None:
    """One shape, in a process of its own."""
    root.mkdir()
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(root)
            os.mkdir("work")
            os.chdir("work")
            measure_here(f"{who}, {shape}", shape, str(root / "state"), files)
        except BaseException:  # noqa: BLE001  the fork boundary
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit(f"{who}, {shape}: failed")
    shutil.rmtree(root)


class Measured:
    """What a `with` block took: time by the clock and of the processor, and the most memory beside that of before."""

    def __enter__(self) -> Measured:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
        self._kilobytes = read_kilobytes("VmRSS")
        self._began, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_error: object) -> None:
        self._seconds, self._cpu = time.perf_counter() - self._began, time.process_time() - self._cpu
        self._megabytes = (read_kilobytes("VmHWM") - self._kilobytes) / 1024

    def describe(self, files: int) -> str:
        return f"{files / self._seconds:7,.0f}/s ({files / self._cpu:7,.0f}) +{self._megabytes:.0f} MB"


def read_kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def find_own(changes: Sequence[Change]) -> list[Change]:
    """The changes in the working directory; others may have changed the machine meanwhile, too."""
    here = f"{os.getcwd()}/"
    return [change for change in changes if change.path.startswith(here)]


def measure_here(title: str, shape: str, state_path: str, files: int) -> None:
    os.environ["HOME"] = os.getcwd()
    if shape != "new":
        write_old(files)
    state = open_state_root(state_path)
    null = os.open(os.devnull, os.O_RDWR)
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    argv = [python, "-I", "-S", "-c", CHANGE, str(files), shape]
    with run_in_box(argv, state=state, stdio=(null, null, 2)) as result:
        assert result.exit_status == 0, result.error
        # Only what happens from here on counts.
        with Measured() as reading:
            changes = read_box_changes(result.directory, result.record)
        own = find_own(changes)
        assert own == find_own(result.changes)
        expected = files + (FOLDERS + 1 if shape == "new" else 0)
        assert len(own) == expected, len(own)
        del changes, own
        with Measured() as commit:
            committed = result.commit(["."])
        assert len(committed.plan.published) == expected
        assert committed.left_out == ()
        assert find_own(result.changes) == []
    for folder in range(FOLDERS):
        if shape == "deleted":
            assert os.listdir(f"tree/{folder}") == []
            continue
        for number in range(files // FOLDERS):
            assert Path(f"tree/{folder}/{number}").read_text() == NEW
    assert sorted(os.listdir(state.boxes_path) + os.listdir(state.stage_path)) == [], "something is left over"
    print(f"{title:<18} changes {reading.describe(files)}   commit {commit.describe(files)}", flush=True)


def as_ordinary_user(root: Path, arguments: argparse.Namespace) -> None:
    """The same as a user who may do nothing special, in a forked child."""
    shutil.copytree(Path(__file__).parents[1] / "src" / "jubako", root / "source" / "jubako")
    shutil.copy(__file__, root / "source" / "commit.py")
    os.chown(root, ORDINARY_USER, ORDINARY_USER)
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(ORDINARY_USER, ORDINARY_USER, ORDINARY_USER)
        os.setresuid(ORDINARY_USER, ORDINARY_USER, ORDINARY_USER)
        os.environ.update(HOME=str(root), PYTHONPATH=str(root / "source"))
        python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
        os.chdir(root)
        shape = [f"--shape={arguments.shape}"] if arguments.shape else []
        os.execv(python, [python, "source/commit.py", f"--files={arguments.files}", "--inner", *shape])
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("the ordinary user's measurement failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000, help="files per shape (default 100000)")
    parser.add_argument("--shape", choices=SHAPES, help="only this one")
    parser.add_argument("--folder", default="/var/tmp", help="where everything is (/var/tmp)")
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.files -= arguments.files % FOLDERS
    root = Path(tempfile.mkdtemp(prefix="jubako-bench-", dir=os.getcwd() if arguments.inner else arguments.folder))
    try:
        root.chmod(0o755)
        if not arguments.inner:
            mount = find_mount(read_mount_table(), str(root))
            print(f"{arguments.files} files, full durability; in {root}, {mount.fstype if mount else 'unknown'}")
        for shape in SHAPES:
            if arguments.shape in (None, shape):
                who = "root" if os.getuid() == 0 else "rootless"
                measure(who, shape, root / shape.replace(" ", "-"), arguments.files)
        if os.getuid() == 0:
            (root / "user").mkdir()
            as_ordinary_user(root / "user", arguments)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
