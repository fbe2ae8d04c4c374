"""The eight kinds of namespaces under the names unshare(1) gives them. See namespaces(7)."""

from __future__ import annotations

from jubako.kernel.namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

__all__ = ["KINDS", "Kind", "KindName"]

KindName: TypeAlias = "Literal['mount', 'uts', 'ipc', 'net', 'pid', 'user', 'cgroup', 'time']"


@record
class Kind:
    """One kind: the flag of unshare(2) and setns(2), and the names of its links in /proc/PID/ns.

    A process is never in a new pid or time namespace itself, only its children are: `for_children` names that one.
    """

    flag: int
    link: str
    for_children: str


KINDS: dict[KindName, Kind] = {
    "mount": Kind(CLONE_NEWNS, "mnt", "mnt"),
    "uts": Kind(CLONE_NEWUTS, "uts", "uts"),
    "ipc": Kind(CLONE_NEWIPC, "ipc", "ipc"),
    "net": Kind(CLONE_NEWNET, "net", "net"),
    "pid": Kind(CLONE_NEWPID, "pid", "pid_for_children"),
    "user": Kind(CLONE_NEWUSER, "user", "user"),
    "cgroup": Kind(CLONE_NEWCGROUP, "cgroup", "cgroup"),
    "time": Kind(CLONE_NEWTIME, "time", "time_for_children"),
}
