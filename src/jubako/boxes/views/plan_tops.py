"""Plans the tops of a task's view: which there are, how they are mounted, and where in them a path is. Pure.

A mount that lies below an overlaid directory would be hidden by it. It is taken before and placed back after: disks (as
root), what the box shares, and the masks over jubako's state.

Narrow and wide views differ in what is covered (`cover.plan_cover`, `plan_wide.plan_wide_cover`). Where "/" is, its
overlay is put together aside and becomes the root; /run, which the template has emptied, gets a private overlay then.
"""

from __future__ import annotations

import os

from jubako.boxes.views.facts import HostFacts, KnownPath, is_below
from jubako.boxes.views.operations import (
    Bind,
    CopyAttributes,
    CopyFile,
    MakeDirectory,
    MountOverlay,
    Operation,
    PivotRoot,
    PlaceTree,
    TakeTree,
)
from jubako.kernel.mount_table import Mount, find_mount, mounts_below
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

__all__ = [
    "SCRATCH",
    "SHM",
    "SHM_IN_SCRATCH",
    "Overlay",
    "find_top",
    "list_private_tops",
    "plan_overlays",
    "plan_top_directories",
    "plan_tops",
]

SCRATCH = "/run/jubako"
SHM = "/dev/shm"
SHM_IN_SCRATCH = "view/shm"

_RUN = "/run"
_ROOT = f"{SCRATCH}/root"


@record
class Overlay:
    """One overlay of a job: the directory it covers, and the name of its upper directory in the scratch.

    Or a file bound over another one, which an overlay cannot cover: then the upper holds a copy of it, and that alone.
    """

    target: str
    upper: str
    has_mounts: bool = False  # on this machine there are mounts below the directory
    is_file: bool = False
    is_private: bool = False  # what it covers is the box's own, so what is written there is scratch
    kept: tuple[str, ...] = ()  # mount points below that are put back on top
    holes: tuple[str, ...] = ()  # those of them that are no overlays

    @property
    def work(self) -> str:
        """The name of its work directory in the scratch."""
        return self.upper.replace("upper", "work")

    @property
    def directory(self) -> str:
        """The directory that the upper belongs to."""
        return os.path.dirname(self.target) if self.is_file else self.target

    def find(self, path: str) -> str:
        """Where in the scratch `path` is, which lies at or below the target."""
        directory = self.directory
        return self.upper + (path[len(directory) :] if directory != "/" else path)


_SHM_TOP = Overlay(SHM, SHM_IN_SCRATCH, is_private=True)  # not mounted: /dev/shm is a link to it


def plan_tops(
    directories: Collection[str], files: Collection[str], shared: Sequence[KnownPath], facts: HostFacts
) -> tuple[Overlay, ...]:
    """The tops over `directories` and in place of `files`, parents before what lies below them."""
    targets = sorted({*directories, *files})
    ours = [*targets, *(one.path for one in shared)]
    tops = []
    for index, target in enumerate(targets):
        if target in files:
            tops.append(Overlay(target, f"upper-{index}", is_file=True))
            continue
        kept = tuple(_mounts_to_keep(target, facts, ours))
        tops.append(
            Overlay(
                target,
                f"upper-{index}",
                has_mounts=bool(mounts_below(facts.mounts, target)),
                is_private=target == _RUN,
                kept=kept,
                holes=tuple(path for path in kept if path not in targets),
            )
        )
    return tuple(tops)


def plan_top_directories(overlays: Sequence[Overlay]) -> Iterator[Operation]:
    """The directories in the scratch that `plan_overlays` needs."""
    for overlay in overlays:
        yield MakeDirectory(f"{SCRATCH}/{overlay.upper}")
        if not overlay.is_file:
            yield MakeDirectory(f"{SCRATCH}/{overlay.work}")
        if overlay.target == "/":
            yield MakeDirectory(_ROOT)


def plan_overlays(overlays: Sequence[Overlay], *, volatile: bool, userxattr: bool) -> Iterator[Operation]:
    """The overlays, the deepest first: one that lies below another is then among the mounts put back on that.

    Those on disk are volatile, or their umount would sync the whole disk. In memory there is nothing to sync, and the
    marks that a volatile overlay makes in its work directory cost it a fifth of its mount.
    """
    for overlay in reversed(overlays):
        target, upper = overlay.target, f"{SCRATCH}/{overlay.upper}"
        if overlay.is_file:
            copy = f"{upper}/{os.path.basename(target)}"
            yield from (CopyAttributes(overlay.directory, upper), CopyFile(target, copy), Bind(copy, target))
            continue
        yield CopyAttributes(target, upper)
        for path in overlay.kept:
            yield TakeTree(path, path)
        root = _ROOT if target == "/" else ""
        work = f"{SCRATCH}/{overlay.work}"
        yield MountOverlay((target,), root or target, upper=upper, work=work, volatile=volatile, userxattr=userxattr)
        for path in overlay.kept:
            yield PlaceTree(path, root + path)
        if root:
            yield PivotRoot(root)


def list_private_tops(overlays: Sequence[Overlay]) -> list[Overlay]:
    """Those whose place is the box's own and empty at the start: /dev/shm, and /run where it can be written."""
    return [_SHM_TOP, *(one for one in overlays if one.is_private)]


def find_top(path: str, overlays: Sequence[Overlay]) -> Overlay | None:
    """The top that has what is written to `path`, a real one; None if nothing can be written there by name."""
    covering = [one for one in (*overlays, _SHM_TOP) if is_below(path, one.target)]
    if not covering:
        return None
    innermost = max(covering, key=lambda one: len(one.target))
    return None if any(is_below(path, hole) for hole in innermost.holes) else innermost


def _mounts_to_keep(target: str, facts: HostFacts, ours: Sequence[str]) -> list[str]:
    """The points of mounts directly below `target` that an overlay of it would hide: the machine's and ours."""
    if target == _RUN:  # the template's, which has replaced the machine's
        mounted = {SCRATCH, *facts.run_files, *facts.run_mounts}
    else:
        mounted = {mount.mount_point for mount in mounts_below(facts.mounts, target) if _is_visible(mount, facts)}
        mounted.update(facts.hidden)
    if target == "/":
        mounted |= {"/dev", _RUN, *facts.masked_directories, *facts.control_sockets}
    points = sorted(path for path in {*mounted, *ours} if path != target and is_below(path, target))
    return [one for one in points if not any(one != other and is_below(one, other) for other in points)]


def _is_visible(mount: Mount, facts: HostFacts) -> bool:
    """True if `mount` is what a walk to its point meets: not covered by another one, nor masked in the template."""
    if mount.is_deleted or any(is_below(mount.mount_point, hidden) for hidden in facts.hidden):
        return False
    found = find_mount(facts.mounts, mount.mount_point)
    return found is not None and found.mount_point == mount.mount_point
