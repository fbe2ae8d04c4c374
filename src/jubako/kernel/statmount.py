"""The mounts this process sees, asked of the kernel one by one: statmount(2) and listmount(2), Linux 6.8.

What comes back are the same values as from /proc/self/mountinfo, without a text to be parsed, without /proc, and with
the unique id of each mount. A row needs answers that came to statmount until Linux 6.15, which is also the first to
say what it can answer. `look_at_mounts` asks this way where that is so, and reads the text everywhere else: of other
processes always, whose root may be another one than that of their mount namespace, for which alone the calls answer.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from jubako.kernel.mount_table import Mount, read_mount_table
from jubako.kernel.mounts import (
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MS_UNBINDABLE,
)
from jubako.kernel.syscalls import call

__all__ = ["LSMT_ROOT", "ask_mounts", "listmount", "look_at_mounts", "statmount"]

LSMT_ROOT = 0xFFFFFFFFFFFFFFFF  # instead of a mount: all that can be reached from this process's root

_SB_BASIC = 0x1
_MNT_BASIC = 0x2
_PROPAGATE_FROM = 0x4
_MNT_ROOT = 0x8
_MNT_POINT = 0x10
_FS_TYPE = 0x20
_MNT_OPTS = 0x80
_FS_SUBTYPE = 0x100
_SB_SOURCE = 0x200
_SUPPORTED_MASK = 0x1000
_NEEDED = (
    _SB_BASIC | _MNT_BASIC | _PROPAGATE_FROM | _MNT_ROOT | _MNT_POINT | _FS_TYPE | _MNT_OPTS | _FS_SUBTYPE | _SB_SOURCE
)

_REQUEST = struct.Struct("=IIQQ")  # size, 0, mount id, parameter
_ANSWER = struct.Struct(
    "=II"  # size with strings, where the options are
    "QII"  # what was answered, device major, minor
    "QII"  # magic, flags of the file system, where its type is
    "QQII"  # id and parent, the unique ones, and those of mountinfo
    "QQQQQ"  # attributes, propagation, peer group, master, propagate_from
    "II"  # where the root and the mount point are
    "Q"  # id of the mount namespace
    "II"  # where the subtype and the source are
    "IIII"  # options one by one, which nobody asks for here
    "Q"  # what the kernel can answer
)
_STRINGS_AT = 512  # the size of the structure; strings follow
_ASKED_AT_ONCE = 512
_BUFFER_BYTES = 4096
_LARGEST_BYTES = 1 << 24

_SB_FLAGS = ((0x10, "sync"), (0x80, "dirsync"), (0x40, "mand"), (0x2000000, "lazytime"))
_SB_RDONLY = 0x1
_MOUNT_ATTR_NODIRATIME = 0x80
_MOUNT_ATTR_STRICTATIME = 0x20
_ATTRIBUTES_BEFORE = (
    (MOUNT_ATTR_NOSUID, "nosuid"),
    (MOUNT_ATTR_NODEV, "nodev"),
    (MOUNT_ATTR_NOEXEC, "noexec"),
    (MOUNT_ATTR_NOATIME, "noatime"),
    (_MOUNT_ATTR_NODIRATIME, "nodiratime"),
)
_ATTRIBUTES_BEHIND = ((MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"), (MOUNT_ATTR_IDMAP, "idmapped"))
# No such call; one that a container's filter refuses, which may happen behind a mount that can be asked about, too.
_NOT_TO_BE_ASKED = frozenset((errno.ENOSYS, errno.EPERM, errno.EACCES))


def look_at_mounts(pid: int | None = None) -> list[Mount]:
    """The mounts that process `pid` sees (None: this one) in the kernel's order, asked in the best way there is.

    Raises OSError as reading mountinfo does: ENOENT if there is no such process, EINVAL if it has just ended.
    """
    mounts = ask_mounts() if pid is None else None
    return read_mount_table("self" if pid is None else pid) if mounts is None else mounts


def ask_mounts() -> list[Mount] | None:
    """The mounts that this process sees, by statmount(2); None where this kernel cannot tell all of it that way.

    Mounts that come or go meanwhile may be there or not.
    """
    mounts = []
    try:
        for mount_id in _list_all():
            try:
                mount = statmount(mount_id)
            except FileNotFoundError:  # it was unmounted meanwhile
                continue
            if mount is None:
                return None
            mounts.append(mount)
    except OSError as error:
        if error.errno in _NOT_TO_BE_ASKED:
            return None
        raise
    return mounts


def listmount(mount_id: int, last_id: int = 0, at_most: int = _ASKED_AT_ONCE) -> list[int]:
    """The unique ids of the mounts below `mount_id` (LSMT_ROOT: of all) that follow `last_id`, ascending."""
    request = _REQUEST.pack(_REQUEST.size, 0, mount_id, last_id)
    buffer = ctypes.create_string_buffer(8 * at_most)
    count = call("listmount", request, buffer, at_most, 0)
    return list(struct.unpack_from(f"={count}Q", buffer))


def statmount(mount_id: int) -> Mount | None:
    """The mount with this unique id; None if this kernel cannot tell all of it. ENOENT if there is none such."""
    request = _REQUEST.pack(_REQUEST.size, 0, mount_id, _NEEDED | _SUPPORTED_MASK)
    size = _BUFFER_BYTES
    while True:
        buffer = ctypes.create_string_buffer(size)
        try:
            call("statmount", request, buffer, size, 0)
        except OSError as error:
            if error.errno != errno.EOVERFLOW or size >= _LARGEST_BYTES:
                raise
            size *= 4  # hundreds of layers are named in the options of one overlay
            continue
        return _read_answer(buffer.raw)


def _list_all() -> list[int]:
    found: list[int] = []
    while True:
        more = listmount(LSMT_ROOT, found[-1] if found else 0)
        found += more
        if len(more) < _ASKED_AT_ONCE:
            return found


def _read_answer(raw: bytes) -> Mount | None:
    (
        *_,
        options_at,
        mask,
        major,
        minor,
        _magic,
        super_flags,
        type_at,
        unique_id,
        _unique_parent,
        mount_id,
        parent_id,
        attributes,
        propagation,
        peer_group,
        master,
        dominant,
        root_at,
        point_at,
        _namespace,
        subtype_at,
        source_at,
        _options,
        _options_at,
        _security,
        _security_at,
        supported,
    ) = _ANSWER.unpack_from(raw)
    if not mask & _SUPPORTED_MASK or supported & _NEEDED != _NEEDED:
        return None

    def text(bit: int, at: int) -> str:
        start = _STRINGS_AT + at
        return os.fsdecode(raw[start : raw.index(b"\0", start)]) if mask & bit else ""

    subtype = text(_FS_SUBTYPE, subtype_at)
    own = text(_MNT_OPTS, options_at)
    return Mount(
        id=mount_id,
        parent_id=parent_id,
        device=os.makedev(major, minor),
        root=text(_MNT_ROOT, root_at),
        mount_point=text(_MNT_POINT, point_at),
        options=",".join(_name_attributes(attributes)),
        fstype=text(_FS_TYPE, type_at) + (subtype and f".{subtype}"),
        source=text(_SB_SOURCE, source_at) if mask & _SB_SOURCE else "none",
        super_options=",".join((*_name_super_flags(super_flags), *([own] if own else ()))),
        peer_group=peer_group,
        master=master,
        dominant=0 if dominant == master else dominant,
        unbindable=bool(propagation & MS_UNBINDABLE),
        unique_id=unique_id,
    )


def _name_attributes(attributes: int) -> list[str]:
    """The options of a mount, in the order and words of mountinfo."""
    names = ["ro" if attributes & MOUNT_ATTR_RDONLY else "rw"]
    names += [name for bit, name in _ATTRIBUTES_BEFORE if attributes & bit]
    if not attributes & (MOUNT_ATTR_NOATIME | _MOUNT_ATTR_STRICTATIME):
        names.append("relatime")
    names += [name for bit, name in _ATTRIBUTES_BEHIND if attributes & bit]
    return names


def _name_super_flags(flags: int) -> list[str]:
    return ["ro" if flags & _SB_RDONLY else "rw", *(name for bit, name in _SB_FLAGS if flags & bit)]
