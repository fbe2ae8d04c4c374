"""Mounting: the classic calls and the descriptor-based ones. One thin function per call, under the kernel's names.

The new calls make a mount that is not attached anywhere yet (a detached mount, held by a descriptor) and attach it with
`move_mount`. A failing `fsconfig` or `fsmount` raises `MountError`, which carries what the file system wrote into the
log of its descriptor: the reason in words, where mount(2) would give EINVAL alone. See fsopen(2), mount_setattr(2).
"""

from __future__ import annotations

import os
import struct

from jubako.kernel.syscalls import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, Path, call, close, encode

__all__ = [
    "MNT_DETACH",
    "MNT_EXPIRE",
    "MNT_FORCE",
    "MOUNT_ATTR_IDMAP",
    "MOUNT_ATTR_NOATIME",
    "MOUNT_ATTR_NODEV",
    "MOUNT_ATTR_NOEXEC",
    "MOUNT_ATTR_NOSUID",
    "MOUNT_ATTR_NOSYMFOLLOW",
    "MOUNT_ATTR_RDONLY",
    "MOVE_MOUNT_BENEATH",
    "MOVE_MOUNT_F_EMPTY_PATH",
    "MOVE_MOUNT_F_SYMLINKS",
    "MOVE_MOUNT_T_EMPTY_PATH",
    "MOVE_MOUNT_T_SYMLINKS",
    "MS_BIND",
    "MS_MOVE",
    "MS_NOATIME",
    "MS_NODEV",
    "MS_NOEXEC",
    "MS_NOSUID",
    "MS_NOSYMFOLLOW",
    "MS_PRIVATE",
    "MS_RDONLY",
    "MS_REC",
    "MS_RELATIME",
    "MS_REMOUNT",
    "MS_SHARED",
    "MS_SLAVE",
    "MS_STRICTATIME",
    "MS_UNBINDABLE",
    "OPEN_TREE_CLONE",
    "UMOUNT_NOFOLLOW",
    "MountError",
    "attach",
    "fsconfig_create",
    "fsconfig_fd",
    "fsconfig_flag",
    "fsconfig_string",
    "fsmount",
    "fsopen",
    "idmap_tree",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "umount2",
]

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_RELATIME = 0x200000
MS_STRICTATIME = 0x1000000

MNT_FORCE = 0x1
MNT_DETACH = 0x2
MNT_EXPIRE = 0x4
UMOUNT_NOFOLLOW = 0x8

OPEN_TREE_CLONE = 0x1

MOVE_MOUNT_F_SYMLINKS = 0x01
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_SYMLINKS = 0x10
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOVE_MOUNT_BENEATH = 0x200

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

_FSOPEN_CLOEXEC = 0x1
_FSMOUNT_CLOEXEC = 0x1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_SET_FD = 5
_FSCONFIG_CMD_CREATE = 6
_MOUNT_ATTR = struct.Struct("=QQQQ")  # attr_set, attr_clr, propagation, userns_fd
_LOG_LINE_BYTES = 4096


class MountError(OSError):
    """A mount that was refused. `log` holds the file system's own words, oldest first; the text ends with them."""

    def __init__(self, code: int, text: str, filename: str | None = None, log: tuple[str, ...] = ()) -> None:
        super().__init__(code, "; ".join((text, *log)), filename)
        self._text = text
        self.log = log

    def __reduce__(self) -> tuple[type[MountError], tuple[int | None, str, str | None, tuple[str, ...]]]:
        return MountError, (self.errno, self._text, self.filename, self.log)


def mount(source: Path, target: Path, fstype: str = "", flags: int = 0, data: str | bytes = "") -> None:
    """Mounts, binds, remounts, moves or changes propagation, as `flags` say; see mount(2).

    `data` are the file system's options; the kernel looks at one page of it (4095 bytes).
    """
    call("mount", encode(source), encode(target), encode(fstype), flags, encode(data) or None, path=target)


def umount2(target: Path, flags: int = 0) -> None:
    """Takes away the topmost mount on `target`; with MNT_DETACH at once for lookups, for good when nobody uses it."""
    call("umount2", encode(target), flags, path=target)


def pivot_root(new_root: Path, put_old: Path) -> None:
    """Makes `new_root` (a mount point) the root of this mount namespace; the old root is then mounted on `put_old`.

    `pivot_root(".", ".")` followed by `umount2(".", MNT_DETACH)` needs no directory for the old one.
    """
    call("pivot_root", encode(new_root), encode(put_old), path=new_root, path2=put_old)


def fsopen(fstype: str) -> int:
    """A descriptor to set up a new file system of type `fstype` with; ENODEV if the kernel has no such type."""
    return call("fsopen", encode(fstype), _FSOPEN_CLOEXEC, path=fstype)


def fsconfig_string(fd: int, key: str, value: Path) -> None:
    """Sets the option `key` to a string or a path; an absolute or relative path needs no escaping here."""
    _fsconfig(fd, f"{key}={os.fsdecode(value)}", _FSCONFIG_SET_STRING, encode(key), encode(value))


def fsconfig_flag(fd: int, key: str) -> None:
    """Sets the option `key`, which takes no value."""
    _fsconfig(fd, key, _FSCONFIG_SET_FLAG, encode(key))


def fsconfig_fd(fd: int, key: str, value_fd: int) -> None:
    """Sets the option `key` to what `value_fd` refers to; keep that open until `fsconfig_create`."""
    _fsconfig(fd, f"{key}=fd {value_fd}", _FSCONFIG_SET_FD, encode(key), None, value_fd)


def fsconfig_create(fd: int) -> None:
    """Makes the file system from what was configured."""
    _fsconfig(fd, "create", _FSCONFIG_CMD_CREATE)


def fsmount(fd: int, attributes: int = 0) -> int:
    """A descriptor of a new detached mount of the file system made on `fd`; `attributes` are MOUNT_ATTR_* ones.

    Closing it before `move_mount` takes the mount away again.
    """
    try:
        return call("fsmount", fd, _FSMOUNT_CLOEXEC, attributes)
    except OSError as error:
        raise _with_log(error, fd, "fsmount") from error


def open_tree(dirfd: int, path: Path, flags: int = 0) -> int:
    """A descriptor of the mount at `path`, or with OPEN_TREE_CLONE of a detached copy of it (AT_RECURSIVE: with all
    mounts below)."""
    return call("open_tree", dirfd, encode(path), flags | os.O_CLOEXEC, path=path)


def move_mount(
    from_dirfd: int, from_path: Path, to_dirfd: int, to_path: Path, flags: int = MOVE_MOUNT_F_EMPTY_PATH
) -> None:
    """Attaches a detached mount, or moves an attached one. `move_mount(fd, "", AT_FDCWD, "/mnt")` is the usual form."""
    call("move_mount", from_dirfd, encode(from_path), to_dirfd, encode(to_path), flags, path=to_path)


def mount_setattr(
    dirfd: int, path: Path, flags: int = 0, *, attr_set: int = 0, attr_clr: int = 0, propagation: int = 0
) -> None:
    """Sets and clears MOUNT_ATTR_* of the mount at `path`; AT_RECURSIVE in `flags`: of all below too, all or none.

    `propagation` is one of MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE, or 0 to leave it. AT_EMPTY_PATH in `flags`
    with path "" means the mount `dirfd` stands for. EPERM if a locked flag would be cleared in a user namespace.
    """
    attributes = _MOUNT_ATTR.pack(attr_set, attr_clr, propagation, 0)
    call("mount_setattr", dirfd, encode(path), flags, attributes, len(attributes), path=path)


def idmap_tree(fd: int, userns_fd: int, *, recursive: bool = False) -> None:
    """Has the detached mount `fd` (and all below it, all or none) show its files' owners as `userns_fd` maps them.

    An id inside that user namespace is what is on disk, what it is outside is what shows. EINVAL for a file system that
    cannot be mapped, EPERM for a mapped mount, or without CAP_SYS_ADMIN in the user namespace it was mounted in.
    """
    attributes = _MOUNT_ATTR.pack(MOUNT_ATTR_IDMAP, 0, 0, userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    call("mount_setattr", fd, b"", flags, attributes, len(attributes))


def attach(fd: int, target: Path) -> None:
    """Attaches the detached mount `fd` at `target`, on top of what is there, and closes `fd`, also on failure."""
    try:
        move_mount(fd, "", AT_FDCWD, target)
    finally:
        close(fd)


def _fsconfig(fd: int, what: str, *arguments: int | bytes | None) -> None:
    try:
        call("fsconfig", fd, *arguments)
    except OSError as error:
        raise _with_log(error, fd, f"fsconfig {what}") from error


def _with_log(error: OSError, fd: int, what: str) -> MountError:
    code = error.errno or 0
    return MountError(code, f"{what}: {os.strerror(code)}", None, _read_log(fd))


def _read_log(fd: int) -> tuple[str, ...]:
    """What the file system wrote about itself: one message a read, "e ", "w " or "i " in front, ENODATA at the end."""
    lines: list[str] = []
    while True:
        try:
            line = os.read(fd, _LOG_LINE_BYTES)
        except OSError:  # ENODATA: no more. Anything else must not hide the error being explained.
            return tuple(lines)
        if not line:
            return tuple(lines)
        lines.append(os.fsdecode(line).rstrip("\n")[2:])
