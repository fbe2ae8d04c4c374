"""Files and descriptors: opening below a directory, renaming with conditions, looking closely, flushing, closing.

One thin function per call; see openat2(2), renameat2(2), statx(2), syncfs(2), close_range(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

from jubako.kernel.syscalls import AT_FDCWD, AT_SYMLINK_NOFOLLOW, Path, call, encode, fail
from jubako.records import record

__all__ = [
    "CLOSE_RANGE_CLOEXEC",
    "CLOSE_RANGE_UNSHARE",
    "RENAME_EXCHANGE",
    "RENAME_NOREPLACE",
    "RENAME_WHITEOUT",
    "RESOLVE_BENEATH",
    "RESOLVE_IN_ROOT",
    "RESOLVE_NO_MAGICLINKS",
    "RESOLVE_NO_SYMLINKS",
    "RESOLVE_NO_XDEV",
    "STATX_BASIC_STATS",
    "STATX_BTIME",
    "STATX_MNT_ID",
    "STATX_MNT_ID_UNIQUE",
    "Statx",
    "chdir",
    "close_range",
    "make_directory",
    "make_file",
    "make_symlink",
    "openat2",
    "renameat2",
    "statx",
    "syncfs",
    "write_setting",
]

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

RENAME_NOREPLACE = 0x1
RENAME_EXCHANGE = 0x2
RENAME_WHITEOUT = 0x4

STATX_BASIC_STATS = 0x7FF
STATX_BTIME = 0x800
STATX_MNT_ID = 0x1000
STATX_MNT_ID_UNIQUE = 0x4000  # Linux 6.8: never used again for another mount while the machine runs

CLOSE_RANGE_UNSHARE = 0x2
CLOSE_RANGE_CLOEXEC = 0x4

_OPEN_HOW = struct.Struct("=QQQ")  # flags, mode, resolve
_STATX = struct.Struct(
    "=II"  # mask, blksize
    "QIIIH2x"  # attributes, nlink, uid, gid, mode
    "QQQQ"  # ino, size, blocks, attributes_mask
    "qI4x qI4x qI4x qI4x"  # atime, btime, ctime, mtime: seconds and nanoseconds
    "IIII"  # rdev major, minor, dev major, minor
    "Q"  # mnt_id
)
_STATX_BYTES = 256
_RACES_BORNE = 128  # openat2 answers EAGAIN when a rename elsewhere made it unsure; it says to try again
_UINT_MAX = 0xFFFFFFFF


@record
class Statx:
    """What statx(2) says about one file. Fields the file system could not give are 0; `mask` tells which are real.

    `device`, `inode`, `size_bytes` and `mtime_ns` are what `os.stat` calls st_dev, st_ino, st_size and st_mtime_ns.
    """

    mask: int
    attributes: int
    nlink: int
    uid: int
    gid: int
    mode: int
    inode: int
    size_bytes: int
    blocks: int
    atime_ns: int
    btime_ns: int
    ctime_ns: int
    mtime_ns: int
    rdevice: int
    device: int
    mnt_id: int  # as in mountinfo, or the unique one if that was asked for and given


def openat2(dirfd: int, path: Path, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """A descriptor (close-on-exec) of `path` below `dirfd`, resolved under the RESOLVE_* rules given.

    Raises EXDEV where the path would leave `dirfd` (RESOLVE_BENEATH) or the mount, ELOOP on a forbidden link.
    """
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, mode, resolve)
    raw = encode(path)
    for attempt in range(_RACES_BORNE):
        try:
            return call("openat2", dirfd, raw, how, len(how), path=path)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR) or attempt == _RACES_BORNE - 1:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def renameat2(olddirfd: int, old: Path, newdirfd: int, new: Path, flags: int = 0) -> None:
    """Renames atomically: RENAME_NOREPLACE refuses an existing target (EEXIST), RENAME_EXCHANGE swaps the two.

    EXDEV between two mounts, even of one file system; EINVAL where the file system cannot do what `flags` ask.
    """
    call("renameat2", olddirfd, encode(old), newdirfd, encode(new), flags, path=old, path2=new)


def statx(
    dirfd: int,
    path: Path,
    flags: int = AT_SYMLINK_NOFOLLOW,
    mask: int = STATX_BASIC_STATS | STATX_MNT_ID,
) -> Statx:
    """The state of `path` below `dirfd`; with AT_EMPTY_PATH in `flags` and path "", of `dirfd` itself.

    Symbolic links are not followed unless `flags` leave AT_SYMLINK_NOFOLLOW out.
    """
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    call("statx", dirfd, encode(path), flags, mask, buffer, path=path)
    (
        mask,
        _blksize,
        attributes,
        nlink,
        uid,
        gid,
        mode,
        inode,
        size,
        blocks,
        _attributes_mask,
        *rest,
    ) = _STATX.unpack_from(buffer)
    atime, btime, ctime, mtime = (rest[i] * 1_000_000_000 + rest[i + 1] for i in range(0, 8, 2))
    rdev_major, rdev_minor, dev_major, dev_minor, mnt_id = rest[8:]
    return Statx(
        mask=mask,
        attributes=attributes,
        nlink=nlink,
        uid=uid,
        gid=gid,
        mode=mode,
        inode=inode,
        size_bytes=size,
        blocks=blocks,
        atime_ns=atime,
        btime_ns=btime,
        ctime_ns=ctime,
        mtime_ns=mtime,
        rdevice=os.makedev(rdev_major, rdev_minor),
        device=os.makedev(dev_major, dev_minor),
        mnt_id=mnt_id,
    )


def syncfs(fd: int) -> None:
    """Writes out everything of the file system `fd` lies on; raises write-back errors since `fd` was opened."""
    call("syncfs", fd)


def close_range(first: int, last: int = _UINT_MAX, flags: int = 0) -> None:
    """Closes the descriptors `first` to `last`, both included, or with CLOSE_RANGE_CLOEXEC marks them."""
    call("close_range", first, last, flags)


def chdir(path: Path) -> None:
    """Makes `path` the working directory of this process."""
    call("chdir", encode(path), path=path)


def make_directory(path: Path, mode: int = 0o777) -> bool:
    """Makes a directory whose parent is there; False where something is there already. The umask takes from `mode`."""
    return call("mkdirat", AT_FDCWD, encode(path), mode, path=path, tolerated=errno.EEXIST) != -1


def make_file(path: Path, mode: int = 0o666) -> bool:
    """As `make_directory`, an empty file."""
    flags = stat.S_IFREG | mode
    return call("mknodat", AT_FDCWD, encode(path), flags, 0, path=path, tolerated=errno.EEXIST) != -1


def make_symlink(path: Path, says: Path) -> None:
    """Makes a symbolic link at `path`."""
    call("symlinkat", encode(says), AT_FDCWD, encode(path), path=says, path2=path)


def write_setting(path: Path, text: str) -> None:
    """Writes to a file that the kernel reads as a whole (an id map, a switch): one open(2), one write(2)."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        fail(error.errno or 0, "open", path)
    try:
        os.write(fd, os.fsencode(text))
    except OSError as error:
        fail(error.errno or 0, "write", path)
    finally:
        os.close(fd)
