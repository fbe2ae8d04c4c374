"""User namespaces that boxes of root's enter when their mounts are made: uid 0 there is uid 0, and owns nothing.

What a command may do by its capabilities then is to files and processes that are in reach anyway; the mounts, the
network and all else of the machine belong to the namespace outside. A process makes one and keeps it for all of its
boxes, which cannot reach each other's processes; one for an init is its own.
"""

from __future__ import annotations

import os

from jubako.kernel.children import fork_child, wait_for
from jubako.kernel.idmap import IdRange, forbid_user_namespaces, write_id_map
from jubako.kernel.namespaces import CLONE_NEWUSER, open_namespace, unshare

__all__ = ["find_identity_namespace", "make_identity_namespace"]

_ALL_IDS = IdRange(0, 0, 0xFFFFFFFF)
_kept: dict[bool, tuple[int, int, int]] = {}  # by whether it nests: descriptor, and what it was opened on


def find_identity_namespace(*, nests: bool) -> int:
    """A descriptor of a user namespace in which every id is itself, kept as long as this process lives.

    If not `nests`, no user namespace can be made in it. OSError where this process may not make one.
    """
    kept = _kept.get(nests)
    if kept is not None and _is_still(*kept):
        return kept[0]
    fd = make_identity_namespace(nests=nests)
    status = os.fstat(fd)
    _kept[nests] = (fd, status.st_dev, status.st_ino)
    return fd


def make_identity_namespace(*, nests: bool) -> int:
    """A descriptor (close-on-exec) of a new one."""
    entered, tell_entered = os.pipe()
    mapped, tell_mapped = os.pipe()
    try:
        child = fork_child(lambda: _be_in_it(nests, (entered, tell_mapped), tell_entered, mapped))
    finally:
        os.close(tell_entered)
        os.close(mapped)
    try:
        told = os.read(entered, 4)
        if told == b".":
            for kind in ("uid", "gid"):
                write_id_map(kind, [_ALL_IDS], child)
            os.write(tell_mapped, b".")
            told = os.read(entered, 4)
        if told != b".":
            code = int.from_bytes(told, "little") or 1
            raise OSError(code, f"unshare: {os.strerror(code)}")
        return open_namespace("user", child)
    finally:
        os.close(entered)
        os.close(tell_mapped)  # the child's end
        wait_for(child)


def _be_in_it(nests: bool, theirs: tuple[int, ...], tell: int, mapped: int) -> int:
    """The life of the process that makes it: it waits there until it has been looked at."""
    for fd in theirs:
        os.close(fd)
    try:
        unshare(CLONE_NEWUSER)
    except OSError as error:
        os.write(tell, (error.errno or 1).to_bytes(4, "little"))
        return 1
    os.write(tell, b".")
    if os.read(mapped, 1) != b".":
        return 1
    if not nests:
        forbid_user_namespaces()
    os.write(tell, b".")
    os.read(mapped, 1)
    return 0


def _is_still(fd: int, device: int, inode: int) -> bool:
    """Whether the descriptor is what it was: somebody may have closed all that were open."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (device, inode)
