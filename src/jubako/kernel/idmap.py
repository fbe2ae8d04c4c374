"""User and group id maps of a user namespace: their text form, and how a process enters a namespace with its own ids.

An ordinary user may map exactly one uid and one gid, its own, and only after giving up setgroups(2)
(user_namespaces(7)). More ids need the ranges of /etc/subuid and /etc/subgid and the set-id programs newuidmap and
newgidmap, as `jubako unshare --map-auto` uses them; jubako's boxes don't.
"""

from __future__ import annotations

import errno
import os

from jubako.kernel.files import write_setting
from jubako.kernel.namespaces import CLONE_NEWUSER, unshare
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "IdRange",
    "SubordinateRange",
    "enter_user_namespace",
    "forbid_user_namespaces",
    "format_id_map",
    "parse_id_map",
    "parse_subordinate_ids",
    "read_id_map",
    "write_id_map",
    "write_self_map",
    "write_setgroups",
]


@record
class IdRange:
    """`count` ids from `inside` on, which are `outside` and following in the parent namespace."""

    inside: int
    outside: int
    count: int


@record
class SubordinateRange:
    """`count` ids from `first` on that /etc/subuid or /etc/subgid lends to `owner`, a name or a number."""

    owner: str
    first: int
    count: int


def parse_id_map(text: str) -> tuple[IdRange, ...]:
    """The ranges of a /proc/PID/uid_map or gid_map. Raises ValueError on anything else."""
    ranges = []
    for line in text.splitlines():
        inside, outside, count = line.split()
        ranges.append(IdRange(int(inside), int(outside), int(count)))
    return tuple(ranges)


def format_id_map(ranges: Iterable[IdRange]) -> str:
    """The text to write into a uid_map or gid_map; `parse_id_map` gives the ranges back."""
    return "".join(f"{one.inside} {one.outside} {one.count}\n" for one in ranges)


def read_id_map(kind: str, pid: int | str = "self") -> tuple[IdRange, ...]:
    """The map of process `pid`'s user namespace; `kind` is "uid" or "gid"."""
    with open(f"/proc/{pid}/{kind}_map", encoding="utf-8") as file:
        return parse_id_map(file.read())


def parse_subordinate_ids(text: str) -> tuple[SubordinateRange, ...]:
    """The ranges in /etc/subuid or /etc/subgid; lines that are none (comments, damage) are skipped."""
    ranges = []
    for line in text.splitlines():
        match line.strip().split(":"):
            case [owner, first, count] if owner and first.isdecimal() and count.isdecimal():
                ranges.append(SubordinateRange(owner, int(first), int(count)))
    return tuple(ranges)


def write_self_map(uid: int, gid: int, *, as_root: bool = False) -> None:
    """Maps `uid` and `gid` to themselves, or to 0, in the user namespace this process has just entered, and denies
    setgroups.

    They are the ids it had outside, asked for before unshare(2). A map can be written once.
    """
    write_setgroups("deny")
    write_id_map("uid", [IdRange(0 if as_root else uid, uid, 1)])
    write_id_map("gid", [IdRange(0 if as_root else gid, gid, 1)])


def write_id_map(kind: str, ranges: Iterable[IdRange], pid: int | str = "self") -> None:
    """Gives the user namespace of process `pid` its map of "uid" or "gid". It can be written once.

    EPERM without CAP_SETUID (CAP_SETGID) in the parent namespace, but for one range of one id, the writer's own.
    """
    write_setting(f"/proc/{pid}/{kind}_map", format_id_map(ranges))


def write_setgroups(value: str, pid: int | str = "self") -> None:
    """Says "allow" or "deny" to setgroups(2) in the user namespace of process `pid`, before that has a gid map."""
    write_setting(f"/proc/{pid}/setgroups", value)


def enter_user_namespace(other_namespaces: int = 0, *, as_root: bool = False) -> None:
    """Puts this single-threaded process into a new user namespace, and into the CLONE_NEW* `other_namespaces` it owns.

    It keeps its uid and gid, or is uid and gid 0 there, and gains all capabilities there. The kernel forgets its
    parent-death signal (`process.set_pdeathsig`): set it afterwards.
    """
    uid, gid = os.geteuid(), os.getegid()  # asked afterwards, both are the overflow id
    unshare(CLONE_NEWUSER | other_namespaces)
    write_self_map(uid, gid, as_root=as_root)


def forbid_user_namespaces() -> None:
    """Has the kernel refuse further user namespaces in the one this process is in, if it may say so.

    It may not where /proc/sys is read-only, as in containers. Needs CAP_SYS_RESOURCE in the namespace.
    """
    try:
        write_setting("/proc/sys/user/max_user_namespaces", "0")
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT):
            raise
