"""User namespaces that boxes of root's enter when their mounts are made: uid 0 there is uid 0, and owns nothing.

What a command may do by its capabilities then is to files and processes that are in reach anyway; the mounts, the
network and all else of the machine belong to the namespace outside. A process makes one and keeps it for all of its
boxes, which cannot reach each other's processes; one for an init is its own.
"""

from __future__ import annotations

import os

from jubako.kernel.idmap import IdRange
from jubako.kernel.user_namespaces import open_user_namespace

__all__ = ["find_identity_namespace", "make_identity_namespace"]

_ALL_IDS = IdRange(0, 0, 0xFFFFFFFF)
_kept: list[tuple[int, int, int]] = []  # a descriptor, and what it was opened on


def find_identity_namespace() -> int:
    """A descriptor of a user namespace in which every id is itself and no other one can be made, kept as long as this
    process lives. OSError where this process may not make one."""
    if _kept and _is_still(*_kept[0]):
        return _kept[0][0]
    fd = make_identity_namespace(nests=False)
    status = os.fstat(fd)
    _kept[:] = [(fd, status.st_dev, status.st_ino)]
    return fd


def make_identity_namespace(*, nests: bool) -> int:
    """A descriptor (close-on-exec) of a new one."""
    return open_user_namespace((_ALL_IDS,), (_ALL_IDS,), nests=nests)


def _is_still(fd: int, device: int, inode: int) -> bool:
    """Whether the descriptor is what it was: somebody may have closed all that were open."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (device, inode)
