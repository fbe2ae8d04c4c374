"""How mounts travel: who tells whom of new mounts, across the mount namespaces of a machine, and how to change it.

A mount below a shared one appears below all mounts of its peer group; below a slave appears what is mounted below its
master group, and nothing goes back; private ones do neither, and unbindable ones cannot be copied by a bind either
(mount_namespaces(7)). Which mounts of *other* namespaces are in a group is known only by reading the mount tables of
the processes in them.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from jubako.kernel.mount_table import read_mount_table
from jubako.kernel.mounts import MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE, mount, mount_setattr
from jubako.kernel.syscalls import AT_FDCWD, AT_RECURSIVE
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Literal, TypeAlias

    from jubako.kernel.mount_table import Mount
    from jubako.kernel.syscalls import Path

__all__ = [
    "PROPAGATIONS",
    "Peer",
    "Propagation",
    "View",
    "find_members",
    "masters_of",
    "peers_of",
    "read_other_views",
    "set_propagation",
]

Propagation: TypeAlias = "Literal['private', 'shared', 'slave', 'unbindable']"
PROPAGATIONS: dict[Propagation, int] = {
    "private": MS_PRIVATE,
    "shared": MS_SHARED,
    "slave": MS_SLAVE,
    "unbindable": MS_UNBINDABLE,
}


@record
class View:
    """A mount namespace that is not ours, as the process in it with the lowest pid sees it."""

    pid: int
    process: str  # its name
    mounts: tuple[Mount, ...]


@record
class Peer:
    """A mount that belongs to a peer group. Of a mount in the table that was asked about, `pid` is 0."""

    mount: Mount
    pid: int = 0
    process: str = ""


def set_propagation(path: Path, propagation: Propagation, *, recursive: bool = False) -> None:
    """Changes how the mount at `path` travels, and with `recursive` all mounts below it, all or none.

    EINVAL if `path` is not the root of a mount, EPERM without CAP_SYS_ADMIN over the mount namespace. What comes of it
    is the kernel's to say: a mount that has nobody to receive from becomes private instead of a slave, and a slave that
    is made shared goes on receiving. Symbolic links are followed. Before Linux 5.12 recursion is not atomic.
    """
    flag = PROPAGATIONS[propagation]
    try:
        mount_setattr(AT_FDCWD, path, AT_RECURSIVE if recursive else 0, propagation=flag)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        mount("none", path, "", flag | (MS_REC if recursive else 0))


def find_members(table: Sequence[Mount], views: Iterable[View]) -> dict[int, list[Peer]]:
    """The mounts of every peer group, those of `table` first."""
    members: dict[int, list[Peer]] = {}
    for found in table:
        if found.peer_group:
            members.setdefault(found.peer_group, []).append(Peer(found))
    for view in views:
        for found in view.mounts:
            if found.peer_group:
                members.setdefault(found.peer_group, []).append(Peer(found, view.pid, view.process))
    return members


def read_other_views(table: Sequence[Mount]) -> list[View]:
    """The mount namespaces, other than the one with this `table`, of all processes that can be looked at.

    No mount is in two namespaces, so tables that share an id are of one. Processes that end meanwhile are left out, as
    are those that /proc hides.
    """
    known = {found.id for found in table}
    namespaces: set[int] = set()
    views = []
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        with suppress(OSError, ValueError):  # it has ended, or it may not be looked at
            namespace = _find_namespace(pid)
            if namespace in namespaces:
                continue
            if namespace is not None:
                namespaces.add(namespace)
            mounts = read_mount_table(pid)
            if mounts and not any(found.id in known for found in mounts):
                known.update(found.id for found in mounts)
                with open(f"/proc/{pid}/comm", "rb") as file:
                    views.append(View(pid, os.fsdecode(file.read()).rstrip("\n"), tuple(mounts)))
    return views


def peers_of(found: Mount, members: Mapping[int, Sequence[Peer]]) -> list[Peer]:
    """The other mounts of its peer group."""
    return [peer for peer in members.get(found.peer_group, ()) if peer.mount.id != found.id]


def masters_of(found: Mount, members: Mapping[int, Sequence[Peer]]) -> list[Peer]:
    """The mounts it receives from."""
    return list(members.get(found.master, ())) if found.master else []


def _find_namespace(pid: int) -> int | None:
    """The number of its mount namespace; None for a process whose namespaces are not for us to see."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino
    except PermissionError:
        return None
