"""Where a control group for something of ours could be made: below the groups that this process is in.

There is a tree per controller (v1), one tree for all of them (v2), or both (hybrid), where each controller is in one.
In v2 a group with processes in it can hand no controller on to groups below (cgroups(7), "no internal processes"). Then
the place is beside this process's group: below the nearest one above that hands controllers on and may be written to,
unless a group on the way up has a limit, which would be evaded there.
"""

from __future__ import annotations

import os

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jubako.kernel.mount_table import Mount

__all__ = ["CONTROLLERS", "GroupPlace", "find_group_places", "read_group_places"]

CONTROLLERS = ("memory", "cpu", "cpuacct", "pids")
_LIMITS = ("memory.max", "memory.high", "memory.swap.max", "pids.max", "cpu.max")  # of a v2 group


@record
class GroupPlace:
    """A directory in which a group can be made that has these controllers."""

    version: int  # 1 or 2
    directory: str
    controllers: tuple[str, ...]


def find_group_places(
    table: Sequence[Mount], own: str, read: Callable[[str], str], may_make: Callable[[str], bool]
) -> tuple[GroupPlace, ...]:
    """The places, each controller in one of them at most.

    `own` is the text of /proc/self/cgroup, `read` gives the text of a file ("" where there is none), and `may_make`
    says whether this process may make a group in a directory and move into it.
    """
    paths = {}
    for line in own.splitlines():
        _number, names, path = line.split(":", 2)
        for name in names.split(","):
            paths[name] = path
    places: dict[str, GroupPlace] = {}
    for mount in table:
        if mount.fstype != "cgroup":
            continue
        found = tuple(name for name in CONTROLLERS if name in mount.super_options.split(",") and name in paths)
        directory = _below(mount, paths[found[0]]) if found else None
        if directory is not None and may_make(directory):
            places.setdefault(mount.super_options, GroupPlace(1, directory, found))
    for mount in table:
        if mount.fstype == "cgroup2" and "" in paths and (directory := _below(mount, paths[""])) is not None:
            unified = _find_unified(mount.mount_point, directory, read, may_make)
            if unified is not None:
                places.setdefault("", unified)
    return tuple(places.values())


def read_group_places(table: Sequence[Mount]) -> tuple[GroupPlace, ...]:
    """What this process finds, now."""
    own = _read("/proc/self/cgroup")
    return find_group_places(table, own, _read, _may_make) if own else ()


def _below(mount: Mount, path: str) -> str | None:
    """The directory of the group `path` in this mount, which may show a part of the tree; None if it does not."""
    root = "" if mount.root == "/" else mount.root
    if ".." in path.split("/"):  # outside of this process's cgroup namespace
        return None
    if path == root or path.startswith(f"{root}/"):
        return os.path.normpath(mount.mount_point + path[len(root) :])
    return None


def _find_unified(
    top: str, directory: str, read: Callable[[str], str], may_make: Callable[[str], bool]
) -> GroupPlace | None:
    """The place in v2: where controllers are handed on, else below this process's own group, with none."""
    place = directory
    while True:
        handed_on = read(f"{place}/cgroup.subtree_control").split()
        found = tuple(name for name in CONTROLLERS if name in handed_on)
        if found and may_make(place):
            return GroupPlace(2, place, found)
        if place == top or any(read(f"{place}/{name}").strip() not in ("", *_unlimited(name)) for name in _LIMITS):
            break
        place = os.path.dirname(place)
    return GroupPlace(2, directory, ()) if may_make(directory) else None


def _unlimited(name: str) -> tuple[str, ...]:
    return ("max 100000",) if name == "cpu.max" else ("max",)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:  # not there, or not to be seen
        return ""


def _may_make(directory: str) -> bool:
    return os.access(directory, os.W_OK | os.X_OK) and os.access(f"{directory}/cgroup.procs", os.W_OK)
