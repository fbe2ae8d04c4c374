from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.children import fork_child, wait_for
from jubako.kernel.filesystems import devpts, make_filesystem, proc, tmpfs
from jubako.kernel.mount_table import find_mount, read_mount_table
from jubako.kernel.mounts import MountError, attach
from jubako.kernel.namespaces import CLONE_NEWIPC, CLONE_NEWPID, unshare

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box


def test_tmpfs_holds_no_more_than_its_size(in_namespace: Runner) -> None:
    def fill() -> tuple[int | None, int]:
        Path("t").mkdir()
        attach(tmpfs(size_bytes=1 << 20), "t")
        with pytest.raises(OSError, match="No space") as caught, open("t/file", "wb", buffering=0) as file:
            for _ in range(300):
                file.write(b"x" * 4096)
        return caught.value.errno, os.stat("t/file").st_size

    code, size = in_namespace(fill)
    assert code == errno.ENOSPC
    assert size <= 1 << 20


def test_tmpfs_has_the_mode_and_the_source_asked_for(in_namespace: Runner) -> None:
    def look() -> tuple[int, int, str, set[str]]:
        Path("t").mkdir()
        attach(tmpfs(mode=0o1777), "t")
        found = find_mount(read_mount_table(), "/mnt/t")
        assert found is not None
        state = os.stat("t")
        return stat.S_IMODE(state.st_mode), state.st_uid - os.geteuid(), found.source, set(found.options.split(","))

    mode, owner, source, options = in_namespace(look)
    assert (mode, owner, source) == (0o1777, 0, "jubako")
    assert {"nosuid", "nodev"} <= options


def test_proc_in_a_new_pid_namespace_shows_only_its_processes(in_namespace: Runner) -> None:
    def in_first_process() -> int:
        Path("proc").mkdir()
        attach(proc(), "proc")
        pids = [name for name in os.listdir("proc") if name.isdecimal()]
        return 0 if pids == ["1"] else 1

    def run() -> int:
        unshare(CLONE_NEWPID)
        return wait_for(fork_child(in_first_process))

    assert in_namespace(run) == 0


def test_devpts_starts_without_terminals_and_gives_one(in_namespace: Runner) -> None:
    def open_terminal() -> tuple[list[str], list[str]]:
        Path("pts").mkdir()
        attach(devpts(), "pts")
        before = sorted(os.listdir("pts"))
        fd = os.open("pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        after = sorted(os.listdir("pts"))
        os.close(fd)
        return before, after

    assert in_namespace(open_terminal) == (["ptmx"], ["0", "ptmx"])


def test_make_filesystem_serves_any_type(in_namespace: Runner) -> None:
    def make() -> str:
        unshare(CLONE_NEWIPC)
        Path("q").mkdir()
        attach(make_filesystem("mqueue"), "q")
        found = find_mount(read_mount_table(), "/mnt/q")
        assert found is not None
        return found.fstype

    assert in_namespace(make) == "mqueue"


def test_make_filesystem_that_fails_leaves_no_descriptor(in_namespace: Runner) -> None:
    def count() -> tuple[int, int]:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(MountError):
            make_filesystem("tmpfs", {"size": "-"})
        return before, len(os.listdir("/proc/self/fd"))

    before, after = in_namespace(count)
    assert before == after
