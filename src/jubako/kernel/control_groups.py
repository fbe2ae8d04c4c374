"""Which control groups this host has, which controllers they offer, and whether this process may use them."""

from __future__ import annotations

import os

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal, TypeAlias

    from jubako.kernel.mount_table import Mount

__all__ = ["ControlGroups", "describe_control_groups", "read_control_groups"]

Mode: TypeAlias = "Literal['v2', 'v1', 'hybrid', 'none']"


@record
class ControlGroups:
    """`controllers` are those of the mode in charge; `is_writable`: this process may make groups below its own."""

    mode: Mode
    controllers: tuple[str, ...] = ()
    is_writable: bool = False


def describe_control_groups(table: Sequence[Mount], own: str) -> tuple[Mode, tuple[str, ...], str]:
    """The mode, the controllers of v1 if there are any, and this process's directory in v2 (or in v1's memory).

    `own` is the text of /proc/self/cgroup.
    """
    unified = [mount.mount_point for mount in table if mount.fstype == "cgroup2"]
    classic = [mount for mount in table if mount.fstype == "cgroup"]
    paths = {}
    for line in own.splitlines():
        _number, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    found = set()
    directory = ""
    for mount in classic:
        names = {option for option in mount.super_options.split(",") if option in paths and option}
        found |= names
        if "memory" in names:
            directory = mount.mount_point + paths["memory"]
    if unified and not found:
        return "v2", (), os.path.normpath(unified[0] + paths.get("", "/"))
    if found:
        return ("hybrid" if unified else "v1"), tuple(sorted(found)), os.path.normpath(directory) if directory else ""
    return "none", (), ""


def read_control_groups(table: Sequence[Mount]) -> ControlGroups:
    """What this process finds."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            own = file.read()
    except FileNotFoundError:  # a kernel without them
        own = ""
    mode, controllers, directory = describe_control_groups(table, own)
    if mode == "v2":
        try:
            with open(f"{directory}/cgroup.controllers", encoding="utf-8") as file:
                controllers = tuple(sorted(file.read().split()))
        except OSError:  # another cgroup namespace: our group is not visible from here
            controllers = ()
    return ControlGroups(mode, controllers, bool(directory) and os.access(directory, os.W_OK))
