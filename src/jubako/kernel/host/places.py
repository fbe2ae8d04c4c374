"""The directories jubako writes to: room and inodes, whether boxes can be kept there, what survives a power loss."""

from __future__ import annotations

import os

from jubako.kernel.durability import read_durability
from jubako.kernel.host.ability import GIB, Ability, format_size
from jubako.kernel.mount_table import find_mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from jubako.kernel.mount_table import Mount

__all__ = ["find_nearest_directory", "look_at_durability", "look_at_space"]

_ABOUT = "files"
_LITTLE_SPACE_BYTES = GIB
_FEW_INODES = 10_000


def look_at_space(name: str, path: str, table: Sequence[Mount]) -> Ability:
    """Room in the directory `path`, or where it will be made."""
    existing = find_nearest_directory(path)
    mount = find_mount(table, existing)
    space = os.statvfs(existing)
    free = space.f_bavail * space.f_frsize
    why = "what is written there must fit, and what does not is a failed task"
    cure = "remove files there, or choose another disk"
    if not os.access(existing, os.W_OK | os.X_OK):
        return Ability(
            _ABOUT,
            name,
            "no",
            f"{path} cannot be written by this user",
            why,
            "choose another, or change its owner",
        )
    if space.f_files and not space.f_favail:
        return Ability(_ABOUT, name, "no", f"no inodes free in {path}", why, cure)
    meaning = f"{format_size(free)} free in {path} ({mount.fstype if mount else 'unknown'})"
    if space.f_files and space.f_favail < _FEW_INODES:
        return Ability(_ABOUT, name, "limited", f"{meaning}, {space.f_favail} inodes", why, cure)
    if free < _LITTLE_SPACE_BYTES:
        return Ability(_ABOUT, name, "limited" if free else "no", meaning, why, cure)
    return Ability(_ABOUT, name, "yes", meaning, why)


def look_at_durability(paths: Iterable[str], table: Sequence[Mount]) -> Iterator[Ability]:
    """What each file system of `paths`, once, keeps when the power goes."""
    found = {one.mount_point: one for one in (read_durability(find_nearest_directory(path), table) for path in paths)}
    why = "with --durability full, what a run says it published is there after a power loss"
    for one in found.values():
        name = f"durability of {one.mount_point}"
        if one.holds_full:
            yield Ability(_ABOUT, name, "yes", "what was published survives a power loss", why)
        else:
            meaning = f"what was published survives kill -9 only: {one.why_not}"
            yield Ability(_ABOUT, name, "limited", meaning, why, one.cure)


def find_nearest_directory(path: str) -> str:
    """The real name of `path`, or of the nearest directory above it that is there."""
    existing = os.path.realpath(path)
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    return existing
