"""What the wide view's planner must know about this machine and this user, read once and kept as values.

`read_wide_facts` is called by the process that starts a command's box, outside its namespaces; `read_cover_facts` by a
worker in its own, for tasks. Nothing here decides anything.
"""

from __future__ import annotations

import os
import stat

from jubako.boxes.views.facts import HostFacts, Place, ancestors, find_place, read_host_facts
from jubako.boxes.views.mount_layout import is_stackable, visible_mounts
from jubako.boxes.views.plan_wide import PROC_OF_THE_MACHINE, WideFacts
from jubako.kernel.capabilities import capability_number, capget
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

__all__ = ["add_places", "read_cover_facts", "read_wide_facts"]

_NOT_LISTED = frozenset({"dev", "home", "proc", "run", "sys", "tmp"})  # replaced in the view, named, or too many


def read_wide_facts(hidden: Iterable[str], environment: Mapping[str, str], cwd: str) -> WideFacts:
    """The facts for a box started by this process. `environment` is the command's: HOME, TMPDIR, control sockets."""
    host = read_host_facts(hidden, environment)
    if not _may_mount():
        host = replace(host, in_user_namespace=True)  # it will be: the box makes one
    return replace(
        read_cover_facts(host, environment, cwd),
        proc_names=frozenset(name for name in PROC_OF_THE_MACHINE if os.path.exists(f"/proc/{name}")),
        terminal=_find_terminal(),
        foreign_cwd=_find_foreign_cwd(cwd) if host.in_user_namespace else "",
        home=os.path.realpath(home) if os.path.isabs(home := environment.get("HOME", "")) else "",
        root_entries=tuple(_list_root()),
    )


def read_cover_facts(host: HostFacts, environment: Mapping[str, str], cwd: str) -> WideFacts:
    """The part of the facts that says what will be copy-on-write (`plan_wide_cover`)."""
    if not host.in_user_namespace:
        modes = dict(_find_other_points(host))
        files = frozenset(point for point, mode in modes.items() if stat.S_ISREG(mode))
        return WideFacts(host, file_points=files, special_points=frozenset(modes) - files)
    return add_places(WideFacts(host), tuple(_find_places(host, environment, cwd)))


def add_places(facts: WideFacts, places: Collection[Place]) -> WideFacts:
    """`facts` with further `places`, where it is such that count."""
    if not facts.host.in_user_namespace:
        return facts
    foreign = facts.foreign.union(_find_foreign(places, facts.host.uid))
    return replace(facts, places=(*facts.places, *places), foreign=foreign)


def _list_root() -> Iterator[tuple[str, str]]:
    with os.scandir("/") as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_symlink():
                yield entry.name, os.readlink(entry.path)
            elif entry.is_dir():
                yield entry.name, ""


def _may_mount() -> bool:
    return bool(capget().effective >> capability_number("CAP_SYS_ADMIN") & 1)


def _find_other_points(host: HostFacts) -> Iterator[tuple[str, int]]:
    """The mount points that are no directories, and the mode of each."""
    for mount in visible_mounts(host.mounts):
        if is_stackable(mount):  # a look at a network file system may hang
            try:
                mode = os.stat(mount.mount_point).st_mode
            except OSError:
                continue
            if not stat.S_ISDIR(mode):
                yield mount.mount_point, mode


def _find_places(host: HostFacts, environment: Mapping[str, str], cwd: str) -> Iterator[Place]:
    """Where this user can write: the usual places, and directories of its own, two levels deep and at mount points."""
    named = {cwd: "the working directory", environment.get("HOME", ""): "the home directory"}
    named |= {path: path for path in ("/tmp", "/var/tmp", environment.get("TMPDIR", ""))}
    named |= {path: path for path in _find_own_directories("/", host.uid, levels=1 if host.uid == 0 else 2)}
    stackable = [mount for mount in visible_mounts(host.mounts) if is_stackable(mount) and not mount.is_read_only]
    named |= {mount.mount_point: mount.mount_point for mount in stackable if _is_own(mount.mount_point, host.uid)}
    for path, purpose in named.items():
        if os.path.isabs(path):
            yield find_place(path, purpose, host)


def _find_foreign(places: Iterable[Place], uid: int) -> Iterator[str]:
    for path in {above for place in places for above in ancestors(place.path)}:
        if not _is_own(path, uid):
            yield path


def _find_own_directories(directory: str, uid: int, *, levels: int) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name in _NOT_LISTED or not entry.is_dir(follow_symlinks=False):
                    continue
                if entry.stat(follow_symlinks=False).st_uid == uid:
                    yield entry.path
                elif levels > 1:
                    yield from _find_own_directories(entry.path, uid, levels=levels - 1)
    except OSError:  # it cannot be looked into
        return


def _is_own(path: str, uid: int) -> bool:
    try:
        return os.stat(path).st_uid == uid
    except OSError:
        return False


def _find_foreign_cwd(cwd: str) -> str:
    """The working directory, if overlayfs cannot copy it up in a box that has this user and its first group alone."""
    try:
        found = os.stat(cwd)
    except OSError:
        return ""
    return "" if (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid()) else cwd


def _find_terminal() -> str:
    for fd in range(3):
        try:
            return os.ttyname(fd)
        except OSError:
            continue
    return ""
