"""Plans the wide view: this whole machine, copy-on-write, for a command of which nobody knows what it writes. Pure.

As root, one overlay per real file system: "/" becomes the new root, every other mount is put back in its place in it.
As an ordinary user the kernel refuses an overlay of anything with a mount below, "/" above all; so the machine is made
read-only in place, and overlays cover what this user can write. Both in the same three steps:

    tops    the overlays are made first, as detached trees, while every path still means the machine's own
    take    everything else that will be shown is taken as a tree too
    build   the old view goes (a new root, or read-only), and the trees are put in their places, parents first

The mount namespace is private already. No path is looked up in a directory that a kept box may have replaced by a
link out of it.

    plan_wide(...) -> WidePlan(tops, operations, notes)
"""

from __future__ import annotations

import os

from jubako.boxes.views.cover import Cover, plan_cover
from jubako.boxes.views.facts import HostFacts, KnownPath, Place, ancestors, is_below
from jubako.boxes.views.mount_layout import MountLayout, plan_mount_layout
from jubako.boxes.views.operations import (
    Bind,
    MakeDirectory,
    MakeFile,
    MakeSymlink,
    MaskDirectory,
    MaskFile,
    MountDevpts,
    MountProc,
    MountTmpfs,
    Operation,
    PivotRoot,
    PlaceTree,
    SetAttributes,
    TakeTree,
)
from jubako.kernel.mount_table import find_mount
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

__all__ = [
    "PROC_OF_THE_MACHINE",
    "Stacked",
    "Top",
    "WideFacts",
    "WidePlan",
    "plan_dev",
    "plan_proc_settings",
    "plan_run",
    "plan_wide",
    "plan_wide_cover",
]

_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
# What uid 0 may change in /proc by being uid 0, whatever its capabilities: the kernel's settings, not the box's.
PROC_OF_THE_MACHINE = ("acpi", "bus", "driver", "fs", "irq", "mtrr", "scsi", "sys", "sysrq-trigger")
_EMPTY_FILE = "/dev/null"


@record
class WideFacts:
    """What the planner must know beside the machine: `host.in_user_namespace` says which of the two plans it is."""

    host: HostFacts
    places: tuple[Place, ...] = ()  # as an ordinary user: where this user can write
    foreign: frozenset[str] = frozenset()  # directories above `places` that belong to somebody else
    file_points: frozenset[str] = frozenset()  # as root: the mount points that are files
    special_points: frozenset[str] = frozenset()  # as root: those that are neither files nor directories
    proc_names: frozenset[str] = frozenset()  # names in /proc
    terminal: str = ""  # the caller's, to be /dev/console
    foreign_cwd: str = ""  # the working directory, if its owner or its group is none that the box will have
    home: str = ""  # the home directory, by its real name
    root_entries: tuple[tuple[str, str], ...] = ()  # of "/", directories and links: name, what the link says or ""


@record
class Stacked:
    """A directory to lie above `target` and below the new top: what a kept box held there. A host path."""

    target: str
    directory: str


@record
class Top:
    """One part of the view that can be written: an overlay of the directory `target`, or a copy of the file `target`.

    Its upper directory is `upper` and overlayfs's own is `work`, relative to the box. `lowers` are host paths, the
    topmost first; the last is what it covers.
    """

    target: str
    name: str  # of the tree
    upper: str
    work: str
    lowers: tuple[str, ...]
    is_file: bool = False

    @property
    def layer_target(self) -> str:
        """The directory that the upper directory belongs to."""
        return os.path.dirname(self.target) if self.is_file else self.target


@record
class WidePlan:
    """`tops` are made as trees under their names; then `operations` are applied, in the new namespaces."""

    tops: tuple[Top, ...]
    operations: tuple[Operation, ...]
    notes: tuple[str, ...]
    userxattr: bool  # the overlays keep their marks in user.*, as they must in a user namespace
    seal: tuple[Operation, ...] = ()  # applied last, when everything else is in its place


def plan_wide(
    facts: WideFacts,
    box_directory: str,
    *,
    shared: Sequence[KnownPath] = (),
    stacked: Sequence[Stacked] = (),
    refused: Collection[str] = (),
) -> WidePlan:
    """The plan of a box whose files are kept in `box_directory`.

    `shared` stays read-write and the machine's own; `stacked`, the topmost first, is what lies between the machine and
    the new tops; of the directories `refused` the kernel would not make an overlay.
    """
    if facts.host.in_user_namespace:
        return _plan_in_place(facts, shared, stacked, refused)
    return _plan_new_root(facts, box_directory, shared, stacked, refused)


def plan_wide_cover(facts: WideFacts, refused: Collection[str] = ()) -> Cover:
    """What the wide view makes copy-on-write: as root every real file system and "/" itself, else what this user can
    write, "/" excepted. A task's view is made from it as from the narrow view's cover (`plan`)."""
    if not facts.host.in_user_namespace:
        layout = _plan_layout(facts, refused)
        shown = [path for path in layout.overlays if not is_below(path, "/run") or _is_run_mount(path, facts.host)]
        return Cover(tuple(shown), layout.notes, layout.files)
    cover = plan_cover(facts.places, facts.host, refused)
    return Cover(tuple(sorted({*cover.directories, *_find_cut_off(cover.directories, facts)})), cover.notes)


def _is_run_mount(path: str, host: HostFacts) -> bool:
    return any(is_below(path, point) for point in host.run_mounts)


def _plan_layout(facts: WideFacts, refused: Collection[str]) -> MountLayout:
    return plan_mount_layout(facts.host, facts.file_points, refused, facts.special_points)


def _plan_new_root(
    facts: WideFacts,
    box_directory: str,
    shared: Sequence[KnownPath],
    stacked: Sequence[Stacked],
    refused: Collection[str],
) -> WidePlan:
    host = facts.host
    layout = _plan_layout(facts, refused)
    tops = _plan_tops(layout.overlays, layout.files, stacked, refused)
    root = f"{box_directory}/root"
    operations = (
        *_take(facts, shared),
        TakeTree("/sys", "/sys"),
        *(TakeTree(point, point, recursive=False) for point in layout.read_only),
        PlaceTree(tops[0].name, root),
        PivotRoot(root),
        PlaceTree("/sys", "/sys"),
        SetAttributes("/sys", read_only=True, recursive=True),
        *plan_dev(facts),
        *plan_run(host),
        *_place(tops[1:], layout.read_only),
        MountProc("/proc"),
        *plan_proc_settings(facts),
        *_hide(host, (*layout.overlays, *layout.read_only)),
        *_plan_shared(shared),
    )
    return WidePlan(tops, operations, layout.notes, userxattr=False)


def _plan_in_place(
    facts: WideFacts, shared: Sequence[KnownPath], stacked: Sequence[Stacked], refused: Collection[str]
) -> WidePlan:
    host = facts.host
    cover = plan_wide_cover(facts, refused)
    kept = {one.target for one in stacked}
    outside_kept = [path for path in cover.directories if not any(is_below(path, target) for target in kept)]
    tops = _plan_tops(outside_kept, (), stacked, refused)
    run_mounts = [point for point in host.run_mounts if not any(is_below(top.target, point) for top in tops)]
    operations = (
        *_take(facts, shared),
        *(TakeTree(point, point, recursive=False) for point in run_mounts),
        SetAttributes("/", read_only=True, nosuid=True, nodev=True, recursive=True),
        *plan_dev(facts),
        *plan_run(host),
        *_place(tops, run_mounts),
        MountProc("/proc"),
        *plan_proc_settings(facts),
        *_hide(host, [mount.mount_point for mount in host.mounts]),
        *_plan_shared(shared),
    )
    covered = ", ".join(top.target for top in tops) or "nothing"
    note = f"without root, only this is copy-on-write: {covered}; everything else is read-only"
    notes = [note, *cover.notes]
    targets = {top.target for top in tops}
    if facts.foreign_cwd not in targets and any(is_below(facts.foreign_cwd, target) for target in targets):
        notes.append(
            f"{facts.foreign_cwd} belongs to another user, or to a second group of yours, and in a box without root "
            "there is your first group alone: it can't be changed in there ('Value too large for defined data type')"
        )
    return WidePlan(tops, operations, tuple(notes), userxattr=True)


def _find_cut_off(covered: Sequence[str], facts: WideFacts) -> Iterator[str]:
    """The places that an overlay covers in vain: to write below somebody else's directory (in /tmp, say) overlayfs
    would have to copy that directory up, with an owner this user namespace does not have."""
    for place in facts.places:
        above = {path for path in covered if is_below(place.path, path)}
        if place.writable and above and place.path not in above:
            innermost = max(above, key=len)
            if any(
                is_below(place.path, one) and is_below(one, innermost) and one != innermost for one in facts.foreign
            ):
                yield place.path


def _plan_tops(
    directories: Sequence[str], files: Sequence[str], stacked: Sequence[Stacked], refused: Collection[str]
) -> tuple[Top, ...]:
    """The tops in the order they are put in place: parents first. What is refused keeps its number, so that the others
    keep theirs."""
    kept: dict[str, list[str]] = {}
    for one in stacked:
        kept.setdefault(one.target, []).append(one.directory)
    is_file = dict.fromkeys((*directories, *kept), False) | dict.fromkeys(files, True)
    return tuple(
        Top(
            target=target,
            name=f"top {number}",
            upper=f"{number}/upper",
            work=f"{number}/work",
            lowers=(*kept.get(target, ()), target),
            is_file=is_file[target],
        )
        for number, target in enumerate(sorted({*is_file, *refused}))
        if target in is_file
    )


def _take(facts: WideFacts, shared: Sequence[KnownPath]) -> Iterator[Operation]:
    """Takes what every plan shows from the machine, under its own path as the name."""
    yield from (TakeTree(one.path, one.path) for one in shared)
    for path in (*(device.path for device in facts.host.devices), *facts.host.run_files):
        yield TakeTree(f"own {path}", path, recursive=False)
    if facts.terminal:
        yield TakeTree("terminal", facts.terminal, recursive=False)


def plan_dev(facts: WideFacts) -> Iterator[Operation]:
    """A /dev with the devices that were taken, terminals and shared memory of its own."""
    yield MountTmpfs("/dev", size="1m")
    for device in facts.host.devices:
        yield _mount_point(device)
        yield PlaceTree(f"own {device.path}", device.path)
    for name, says in _DEVICE_LINKS:
        yield MakeSymlink(f"/dev/{name}", says)
    yield MakeDirectory("/dev/pts")
    yield MountDevpts("/dev/pts")
    yield MakeDirectory("/dev/shm")
    yield MountTmpfs("/dev/shm", size="50%", mode=0o1777)
    if facts.terminal:
        yield MakeFile("/dev/console")
        yield PlaceTree("terminal", "/dev/console")


def plan_run(host: HostFacts) -> Iterator[Operation]:
    """An empty /run, where programs find the directories they expect and the files that /etc points to."""
    yield MountTmpfs("/run", size="20%")
    yield MakeDirectory("/run/lock")
    yield MakeDirectory("/run/user")
    yield MakeDirectory(f"/run/user/{host.uid}", 0o700)
    for path in host.run_files:
        yield from (MakeDirectory(above) for above in sorted(ancestors(path)) if above.startswith("/run/"))
        yield from (MakeFile(path), PlaceTree(f"own {path}", path))
        yield SetAttributes(path, read_only=True)
    for name, says in host.run_links:
        yield MakeSymlink(f"/run/{name}", says)


def _place(tops: Sequence[Top], read_only: Sequence[str]) -> Iterator[Operation]:
    """Puts each tree in its place, parents first."""
    trees = {top.target: top for top in tops}
    for path in sorted({*trees, *read_only}):
        top = trees.get(path)
        if top is None or not top.is_file:
            yield MakeDirectory(path)  # missing below /run, and where a kept box has a directory the machine lost
        if top is None:
            yield from (PlaceTree(path, path), SetAttributes(path, read_only=True, nosuid=True, nodev=True))
        else:
            yield PlaceTree(top.name, path)


def plan_proc_settings(facts: WideFacts) -> Iterator[Operation]:
    """Keeps root from changing the kernel's settings in a /proc that is mounted."""
    if facts.host.uid != 0:
        return
    for name in PROC_OF_THE_MACHINE:
        if name in facts.proc_names:
            path = f"/proc/{name}"
            yield from (Bind(path, path), SetAttributes(path, read_only=True))


def _hide(host: HostFacts, shown: Collection[str]) -> Iterator[Operation]:
    """Hides jubako's own directories and the sockets that reach out of the box. `shown`: mount points in the view."""
    yield from (MaskDirectory(path) for path in host.masked_directories)
    yield from (MaskFile(path, _EMPTY_FILE) for path in host.control_sockets)
    for path in host.hidden:
        mount = find_mount(host.mounts, path)
        is_there = mount is None or mount.mount_point in (path, *shown)
        if is_there and not is_below(path, "/run") and not is_below(path, "/dev"):
            yield MaskDirectory(path)


def _plan_shared(shared: Sequence[KnownPath]) -> Iterator[Operation]:
    for one in shared:
        if is_below(one.path, "/run") or is_below(one.path, "/dev"):
            yield from (MakeDirectory(os.path.dirname(one.path)), _mount_point(one))
        yield PlaceTree(one.path, one.path)


def _mount_point(one: KnownPath) -> Operation:
    return MakeDirectory(one.path) if one.is_directory else MakeFile(one.path)
