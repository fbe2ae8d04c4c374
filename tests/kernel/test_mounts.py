from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.filesystems import tmpfs
from jubako.kernel.mount_table import find_mount, read_mount_table
from jubako.kernel.mounts import (
    MNT_DETACH,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    OPEN_TREE_CLONE,
    MountError,
    attach,
    fsconfig_create,
    fsconfig_fd,
    fsconfig_flag,
    fsconfig_string,
    fsopen,
    mount,
    mount_setattr,
    move_mount,
    open_tree,
    pivot_root,
    umount2,
)
from jubako.kernel.syscalls import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box


def error_of(function: Callable[[], object]) -> OSError:
    try:
        function()
    except OSError as error:
        return error
    raise AssertionError("nothing was raised")


def test_mount_that_fails_names_the_target(in_namespace: Runner) -> None:
    error = in_namespace(lambda: error_of(lambda: mount("x", "/mnt", "no_such_fs")))
    assert (error.errno, error.strerror, error.filename) == (errno.ENODEV, "mount: No such device", "/mnt")


def test_fsconfig_that_fails_tells_what_the_file_system_said(in_namespace: Runner) -> None:
    def refused() -> tuple[str, tuple[str, ...]]:
        fd = fsopen("tmpfs")
        with pytest.raises(MountError) as caught:
            fsconfig_string(fd, "size", "a lot")
        return str(caught.value), caught.value.log

    text, log = in_namespace(refused)
    assert log == ("tmpfs: Bad value for 'size'",)
    assert text == "[Errno 22] fsconfig size=a lot: Invalid argument; tmpfs: Bad value for 'size'"


def test_fsconfig_of_an_unknown_flag_is_refused(in_namespace: Runner) -> None:
    error = in_namespace(lambda: error_of(lambda: fsconfig_flag(fsopen("tmpfs"), "sparkling")))
    assert "Unknown parameter 'sparkling'" in str(error)


def test_mount_error_survives_pickling(in_namespace: Runner) -> None:
    error = in_namespace(lambda: error_of(lambda: fsconfig_flag(fsopen("tmpfs"), "sparkling")))
    assert isinstance(error, MountError)
    assert error.log == ("tmpfs: Unknown parameter 'sparkling'",)


def test_fsconfig_takes_a_layer_by_descriptor(in_namespace: Runner) -> None:
    def stack() -> str:
        Path("low").mkdir()
        fd = fsopen("overlay")
        lower = os.open("low", os.O_PATH)
        try:
            fsconfig_fd(fd, "lowerdir+", lower)
        except MountError as error:  # Linux before 6.13
            return str(error.errno)
        fsconfig_string(fd, "lowerdir+", "/usr")
        fsconfig_create(fd)
        return "made"

    assert in_namespace(stack) in ("made", str(errno.EINVAL))


def test_detached_mount_vanishes_when_its_descriptor_is_closed(in_namespace: Runner) -> None:
    def count() -> tuple[int, int]:
        before = len(read_mount_table())
        os.close(tmpfs())
        return before, len(read_mount_table())

    before, after = in_namespace(count)
    assert before == after


def test_attach_on_a_missing_target_leaves_no_descriptor(in_namespace: Runner) -> None:
    def count() -> tuple[int, int]:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(FileNotFoundError) as caught:
            attach(tmpfs(), "/mnt/missing")
        assert caught.value.filename == "/mnt/missing"
        return before, len(os.listdir("/proc/self/fd"))

    before, after = in_namespace(count)
    assert before == after


def test_mount_setattr_makes_a_whole_tree_read_only(in_namespace: Runner) -> None:
    def write() -> tuple[int | None, int | None]:
        Path("a/b").mkdir(parents=True)
        attach(tmpfs(), "a")
        Path("a/b").mkdir()
        attach(tmpfs(), "a/b")
        mount_setattr(AT_FDCWD, "a", AT_RECURSIVE, attr_set=MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC)
        return (
            error_of(lambda: Path("a/x").touch()).errno,
            error_of(lambda: Path("a/b/x").touch()).errno,
        )

    assert in_namespace(write) == (errno.EROFS, errno.EROFS)


def test_mount_setattr_clears_what_was_set(in_namespace: Runner) -> None:
    def write() -> bool:
        fd = tmpfs(attributes=MOUNT_ATTR_RDONLY)
        mount_setattr(fd, "", AT_EMPTY_PATH, attr_clr=MOUNT_ATTR_RDONLY)
        Path("a").mkdir()
        attach(fd, "a")
        Path("a/x").touch()
        return Path("a/x").exists()

    assert in_namespace(write)


def test_open_tree_clone_copies_a_tree_without_attaching_it(in_namespace: Runner) -> None:
    def clone() -> tuple[bool, bool]:
        for name in ("a", "b"):
            Path(name).mkdir()
        attach(tmpfs(), "a")
        Path("a/sub").mkdir()
        attach(tmpfs(), "a/sub")
        Path("a/sub/file").touch()
        tree = open_tree(AT_FDCWD, "a", OPEN_TREE_CLONE | AT_RECURSIVE)
        umount2("a", MNT_DETACH)
        gone = not Path("a/sub").exists()
        move_mount(tree, "", AT_FDCWD, "b")
        return gone, Path("b/sub/file").exists()

    assert in_namespace(clone) == (True, True)


@pytest.mark.parametrize(("flag", "word"), [(MS_SHARED, "shared"), (MS_PRIVATE, "private")])
def test_propagation_set_is_the_one_in_the_table(in_namespace: Runner, flag: int, word: str) -> None:
    def propagation() -> str:
        mount_setattr(AT_FDCWD, "/mnt", propagation=flag)
        found = find_mount(read_mount_table(), "/mnt")
        assert found is not None
        return found.propagation

    assert in_namespace(propagation) == word


def test_slave_of_a_shared_mount_names_its_master(in_namespace: Runner) -> None:
    def groups() -> tuple[int, int, str]:
        for name in ("a", "b"):
            Path(name).mkdir()
        attach(tmpfs(), "a")
        mount("none", "a", "", MS_SHARED)
        mount("a", "b", "", MS_BIND)
        mount("none", "b", "", MS_SLAVE)
        table = read_mount_table()
        a, b = find_mount(table, "/mnt/a"), find_mount(table, "/mnt/b")
        assert a is not None and b is not None
        return a.peer_group, b.master, b.propagation

    group, master, words = in_namespace(groups)
    assert group == master > 0
    assert words == "slave"


def test_pivot_root_onto_itself_leaves_no_way_back(in_namespace: Runner) -> None:
    def pivot() -> list[str]:
        Path("only").touch()
        pivot_root(".", ".")
        umount2(".", MNT_DETACH)
        os.chdir("/")
        return sorted(os.listdir("/"))

    assert in_namespace(pivot) == ["only"]


def test_recursive_bind_brings_what_is_mounted_below(in_namespace: Runner) -> None:
    def bind() -> bool:
        Path("a").mkdir()
        Path("b").mkdir()
        attach(tmpfs(), "a")
        Path("a/sub").mkdir()
        attach(tmpfs(), "a/sub")
        Path("a/sub/file").touch()
        mount("a", "b", "", MS_BIND | MS_REC)
        return Path("b/sub/file").exists()

    assert in_namespace(bind)
