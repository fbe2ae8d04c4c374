"""Plans what a box has mounted beside the usual (`boxes.mounts`). Pure, but for one look at which places exist.

What is bound is taken before the view is made, while its path still means the machine's; everything is put in its place
last, parents first. jubako's own directories stay hidden in what is shown of the machine.
"""

from __future__ import annotations

import os

from jubako.boxes.mounts import Bind, IdMap, Tmpfs
from jubako.boxes.views.facts import KnownPath, is_below
from jubako.boxes.views.operations import (
    IdmapTree,
    MakeDirectory,
    MakeFile,
    MaskDirectory,
    MountTmpfs,
    Operation,
    PlaceTree,
    SetAttributes,
    TakeTree,
)
from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Mounted", "look_at_mounts", "plan_hiding", "plan_placing", "plan_taking"]


@record
class Mounted:
    """A mount, and what must be known of it: whether it is a directory, and whether there is one to mount it on."""

    mount: Bind | Tmpfs
    source: str = ""  # the real path of what is bound
    is_directory: bool = True
    has_place: bool = True
    idmap: IdMap | None = None


def look_at_mounts(mounts: Sequence[Bind | Tmpfs]) -> tuple[Mounted, ...]:
    """The mounts, parents first. InputError for a source that isn't there, for two mounts on one place, and for owners
    that an ordinary user wants mapped."""
    seen: set[str] = set()
    found = []
    for mount in sorted(mounts, key=lambda one: one.target):
        if mount.target in seen:
            raise InputError(f"two things are to be mounted on {mount.target}")
        seen.add(mount.target)
        source, is_directory, idmap = "", True, None
        if isinstance(mount, Bind):
            if not os.path.exists(mount.source):
                raise InputError(f"{mount.source}, which the box should show at {mount.target}, does not exist")
            source = os.path.realpath(mount.source)
            is_directory = os.path.isdir(source)
            idmap = _look_at_owners(mount)
        found.append(Mounted(mount, source, is_directory, os.path.exists(mount.target), idmap))
    return tuple(found)


def _look_at_owners(bind: Bind) -> IdMap | None:
    """Whose the files of `bind` are to show as, by number."""
    if bind.idmap is None:
        return None
    if os.geteuid() != 0:
        raise InputError(
            f"{bind.source} is to show with other owners at {bind.target}, and only root can have that",
            hint="As an ordinary user, show it without idmap: what is yours is yours in the box.",
        )
    if isinstance(bind.idmap, IdMap):
        return bind.idmap
    on_disk, uid, gid = os.stat(bind.source), 0, 0
    if bind.idmap == "owner":
        try:
            owned = os.stat(bind.target)
        except OSError as error:
            raise InputError(
                f"the owner of {bind.target} is to have what is bound there, and nobody owns it: {error.strerror}",
                hint="Make it first, or name ids: idmap=IdMap(...), idmap=uids=FILES-BOX-COUNT on the command line.",
            ) from error
        uid, gid = owned.st_uid, owned.st_gid
    return IdMap(uids=((on_disk.st_uid, uid, 1),), gids=((on_disk.st_gid, gid, 1),))


def plan_taking(mounts: Sequence[Mounted]) -> Iterator[Operation]:
    """Takes what is bound, before anything else is done."""
    for one in mounts:
        if one.source:
            yield TakeTree(_name(one), one.source)
        if one.idmap is not None:
            yield IdmapTree(_name(one), one.source, one.idmap)


def plan_placing(mounts: Sequence[Mounted], hidden: Sequence[str]) -> Iterator[Operation]:
    """Puts everything in its place, after all else; of `hidden` directories nothing shows."""
    for one in mounts:
        target = one.mount.target
        if not one.has_place:
            yield MakeDirectory(target if one.is_directory else os.path.dirname(target))
            if not one.is_directory:
                yield MakeFile(target)
        if isinstance(one.mount, Tmpfs):
            size = "50%" if one.mount.size_bytes is None else str(one.mount.size_bytes)
            yield MountTmpfs(target, size=size, mode=0o1777)
            continue
        yield PlaceTree(_name(one), target)
        yield SetAttributes(target, read_only=one.mount.read_only or None, nosuid=True, nodev=True, recursive=True)
        for path in hidden:
            if is_below(path, one.source):
                yield MaskDirectory(os.path.normpath(target + path[len(one.source.rstrip("/")) :]))


def plan_hiding(shared: Sequence[KnownPath], hidden: Sequence[str]) -> Iterator[Operation]:
    """Hides jubako's own directories in what is shared in its own place, unless it is one of them that is shared."""
    for path in hidden:
        if any(path != one.path and is_below(path, one.path) for one in shared):
            yield MaskDirectory(path)


def _name(one: Mounted) -> str:
    return f"mount {one.mount.target}"
