from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.files import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    STATX_BASIC_STATS,
    STATX_BTIME,
    STATX_MNT_ID_UNIQUE,
    close_range,
    openat2,
    renameat2,
    statx,
    syncfs,
    write_setting,
)
from jubako.kernel.mount_table import read_mount_table
from jubako.kernel.syscalls import AT_EMPTY_PATH, AT_FDCWD

if TYPE_CHECKING:
    from tests.conftest import Runner


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_statx_agrees_with_stat(tmp_path: Path) -> None:
    path = tmp_path / "file\nwith\udcff name"
    path.write_bytes(b"x" * 5000)
    os.utime(path, ns=(10**18 + 7, 1_300_000_000_123_456_789))
    seen, expected = statx(AT_FDCWD, path), os.stat(path)
    assert (seen.device, seen.inode, seen.mode) == (expected.st_dev, expected.st_ino, expected.st_mode)
    assert (seen.size_bytes, seen.blocks, seen.nlink) == (5000, expected.st_blocks, 1)
    assert (seen.uid, seen.gid) == (expected.st_uid, expected.st_gid)
    assert (seen.atime_ns, seen.mtime_ns, seen.ctime_ns) == (
        expected.st_atime_ns,
        expected.st_mtime_ns,
        expected.st_ctime_ns,
    )


def test_statx_of_times_before_1970_is_negative(tmp_path: Path) -> None:
    os.utime(tmp_path, ns=(0, -1_500_000_000))
    assert statx(AT_FDCWD, tmp_path).mtime_ns == os.stat(tmp_path).st_mtime_ns == -1_500_000_000


def test_statx_of_a_device_says_which() -> None:
    assert statx(AT_FDCWD, "/dev/null").rdevice == os.makedev(1, 3)


def test_statx_of_a_link_does_not_follow_it_unless_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    assert stat.S_ISLNK(statx(AT_FDCWD, tmp_path / "link").mode)
    assert stat.S_ISCHR(statx(AT_FDCWD, tmp_path / "link", 0).mode)


def test_statx_mount_id_is_the_one_of_the_mount_table() -> None:
    table = {mount.id: mount.mount_point for mount in read_mount_table()}
    assert table[statx(AT_FDCWD, "/proc/self").mnt_id] == "/proc"


def test_statx_unique_mount_id_is_another_number() -> None:
    unique = statx(AT_FDCWD, "/proc", mask=STATX_BASIC_STATS | STATX_MNT_ID_UNIQUE)
    if unique.mask & STATX_MNT_ID_UNIQUE:  # Linux 6.8
        assert unique.mnt_id > 1 << 31
    else:
        assert unique.mnt_id == statx(AT_FDCWD, "/proc").mnt_id


def test_statx_of_an_open_descriptor_needs_no_name(directory: int, tmp_path: Path) -> None:
    assert statx(directory, "", AT_EMPTY_PATH).inode == tmp_path.stat().st_ino


def test_statx_birth_time_is_between_before_and_now(tmp_path: Path) -> None:
    seen = statx(AT_FDCWD, tmp_path, mask=STATX_BTIME)
    assert not seen.mask & STATX_BTIME or 0 < seen.btime_ns <= time.time_ns()


def test_openat2_below_a_directory_refuses_to_leave_it(directory: int, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/etc")
    for path in ("../x", "/etc", "out/passwd"):
        with pytest.raises(OSError, match="openat2") as caught:
            openat2(directory, path, os.O_RDONLY, resolve=RESOLVE_BENEATH)
        assert caught.value.errno == errno.EXDEV


def test_openat2_in_root_resolves_links_inside(directory: int, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("ours")
    (tmp_path / "out").symlink_to("/etc")
    fd = openat2(directory, "../../out/passwd", os.O_RDONLY, resolve=RESOLVE_IN_ROOT)
    with open(fd) as file:
        assert file.read() == "ours"


def test_openat2_without_links_refuses_one(directory: int, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(OSError, match="openat2") as caught:
        openat2(directory, "link", os.O_RDONLY, resolve=RESOLVE_NO_SYMLINKS)
    assert caught.value.errno == errno.ELOOP


def test_openat2_within_a_mount_refuses_another() -> None:
    with pytest.raises(OSError, match="openat2") as caught:
        openat2(AT_FDCWD, "/proc/self", os.O_RDONLY, resolve=RESOLVE_NO_XDEV)
    assert caught.value.errno == errno.EXDEV


def test_openat2_creates_with_a_mode_and_closes_on_exec(directory: int, tmp_path: Path) -> None:
    fd = openat2(directory, "new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
    inheritable = os.get_inheritable(fd)
    os.close(fd)
    assert not inheritable
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_renameat2_noreplace_keeps_what_is_there(directory: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with pytest.raises(FileExistsError):
        renameat2(directory, "a", directory, "b", RENAME_NOREPLACE)
    assert (tmp_path / "b").read_text() == "b"


def test_renameat2_exchange_swaps_a_file_and_a_directory(directory: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").mkdir()
    renameat2(directory, "a", directory, "b", RENAME_EXCHANGE)
    assert (tmp_path / "a").is_dir()
    assert (tmp_path / "b").read_text() == "a"


def test_syncfs_of_a_closed_descriptor_is_refused() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    os.close(write_end)
    with pytest.raises(OSError, match="syncfs") as caught:
        syncfs(read_end)
    assert caught.value.errno == errno.EBADF


def test_close_range_closes_both_ends_and_no_more(in_child: Runner) -> None:
    def which_are_open() -> list[bool]:
        for fd in range(200, 206):
            os.dup2(0, fd)
        close_range(201, 204)
        return [os.path.exists(f"/proc/self/fd/{fd}") for fd in range(200, 206)]

    assert in_child(which_are_open) == [True, False, False, False, False, True]


def test_setting_that_is_not_there_or_refuses_names_the_call(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="open: No such file"):
        write_setting(tmp_path / "none", "1")
    with pytest.raises(OSError, match="write: Invalid argument") as caught:
        write_setting("/proc/self/oom_score_adj", "many")
    assert caught.value.filename == "/proc/self/oom_score_adj"
