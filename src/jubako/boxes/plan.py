"""Plans the narrow view: what is mounted once for a worker and a box, and what is added for one job. Pure.

The template (`plan_template`) is a mount namespace of binds only: everything read-only, /dev and /run replaced,
sockets that control other things masked, jubako's own state hidden, and what the box shares put back read-write. No
overlay is in it: a lower directory that others publish into is undefined once looked up, so no overlay outlives a job.

A job (`plan_job`) gets a copy of that namespace with one more tmpfs, the scratch, on /run/jubako:

    /run/jubako/upper-0, work-0, ...   the tops of the overlays; covered by the next line before the task starts
    /run/jubako/view     bound on /run/jubako itself, so that the task sees only:
        tmp/             TMPDIR
        shm/             what /dev/shm links to
        stage/K/         the attempt's staging directory on mount K, read-write

A mount that lies below an overlaid directory would be hidden by it. It is taken before and placed back after: disks (as
root), what the box shares, and the masks over jubako's state.
"""

from __future__ import annotations

import os

from jubako.boxes.cover import OWN_VIEW, Cover
from jubako.boxes.facts import HostFacts, KnownPath, Place, is_below
from jubako.boxes.operations import (
    Bind,
    CopyAttributes,
    MakeDirectory,
    MakeFile,
    MakeSymlink,
    MaskDirectory,
    MaskFile,
    MountDevpts,
    MountOverlay,
    MountTmpfs,
    Operation,
    PlaceTree,
    SetAttributes,
    SetPropagation,
    TakeTree,
)
from jubako.kernel.mount_table import Mount, find_mount, mounts_below
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jubako.boxes.spec import Box, StagedOutput

__all__ = [
    "SCRATCH",
    "STAGE",
    "TMP",
    "JobPlan",
    "LocatedOutput",
    "Overlay",
    "Shape",
    "ViewPlan",
    "locate_output",
    "plan_job",
    "plan_shape",
    "plan_template",
    "plan_view",
    "staged_in_box",
]

SCRATCH = "/run/jubako"
TMP = f"{SCRATCH}/tmp"
STAGE = f"{SCRATCH}/stage"

_VIEW = f"{SCRATCH}/view"
_EMPTY = f"{SCRATCH}/empty"
_DEFAULT_SCRATCH_SIZE = "50%"
_HIDDEN_STAGE = ".jubako-stage"  # `place.HIDDEN_NAME`, whose module would bring SQLite into every worker
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("shm", f"{SCRATCH}/shm"),
)


@record
class Overlay:
    """One overlay of a job: the directory it covers, and the name of its upper directory in the scratch."""

    target: str
    upper: str
    has_mounts: bool = False  # on this machine there are mounts below the directory


@record
class LocatedOutput:
    """A declared output, and where on this machine its folder is."""

    output: StagedOutput
    folder: Place
    real_path: str  # the declared path with its existing folders by their real names, as an overlay sees it


def locate_output(output: StagedOutput, folder: Place) -> LocatedOutput:
    """`output`, whose folder was found to be `folder` (by `facts.find_place`)."""
    return LocatedOutput(output, folder, os.path.join(folder.target, os.path.basename(output.path)))


@record
class Shape:
    """What decides how a view is built; jobs of one pipeline have few."""

    directories: tuple[str, ...]  # to overlay (`cover`)
    shared: tuple[KnownPath, ...]
    stages: int
    hidden_stages: tuple[str, ...]  # `.jubako-stage` directories beside outputs
    scratch_size: str = _DEFAULT_SCRATCH_SIZE
    is_on_disk: bool = False


@record
class ViewPlan:
    """What views of one shape share."""

    overlays: tuple[Overlay, ...]
    build: tuple[Operation, ...]  # in a copy of the template


@record
class JobPlan:
    """How one job's view is made, in four steps that happen in different places."""

    overlays: tuple[Overlay, ...]
    stages: tuple[str, ...]  # the staging directories, K being the index
    take: tuple[Operation, ...]  # in the worker's own mount namespace, where staging directories are writable
    build: tuple[Operation, ...]  # in a copy of the template
    show: tuple[Operation, ...]  # after the scratch was opened, which this covers
    freeze: tuple[Operation, ...]  # before check(): nothing of the result can be changed any more
    placed: frozenset[str]  # declared paths of the directory outputs that are put in place


def plan_template(facts: HostFacts, shared: Sequence[KnownPath] = ()) -> tuple[Operation, ...]:
    """The operations that turn a copy of this machine's mounts into the template of a box that shares `shared`.

    The jobs' own /proc is there already: only a process of their pid namespace can make one.
    """
    own = {one.path for one in shared}
    devices = [one for one in facts.devices if one.path not in own]
    run_files = [KnownPath(path, is_directory=False) for path in facts.run_files if path not in own]
    run_mounts = [KnownPath(path, is_directory=True) for path in facts.run_mounts if path not in own]
    return (
        SetPropagation("/", "private"),
        *(TakeTree(one.path, one.path) for one in shared),  # before all is read-only, so that these stay writable
        SetAttributes("/", read_only=True, nosuid=True, recursive=True),
        *(TakeTree(one.path, one.path) for one in (*devices, *run_files, *run_mounts)),
        *_plan_dev(devices, shared),
        *_plan_run([*run_files, *run_mounts], facts.run_links, shared),
        *(MaskDirectory(path) for path in facts.masked_directories),
        *(MaskFile(path, "/dev/null") for path in facts.control_sockets),
        *(MaskDirectory(path) for path in facts.hidden if not is_below(path, "/run")),
        *(PlaceTree(one.path, one.path) for one in shared),
    )


def plan_shape(
    box: Box, cover: Cover, outputs: Sequence[LocatedOutput] = (), shared: tuple[KnownPath, ...] = ()
) -> Shape:
    """The shape of the view of a job."""
    stages = _list_stages(outputs)
    return Shape(
        directories=cover.directories,
        shared=shared,
        stages=len(stages),
        hidden_stages=_find_hidden_stages(stages, cover),
        scratch_size=_DEFAULT_SCRATCH_SIZE if box.scratch_size_bytes is None else str(box.scratch_size_bytes),
        is_on_disk=box.scratch == "disk",
    )


def plan_view(shape: Shape, facts: HostFacts) -> ViewPlan:
    """What views of this shape are built with."""
    overlays = tuple(
        Overlay(target, f"upper-{index}", has_mounts=bool(mounts_below(facts.mounts, target)))
        for index, target in enumerate(shape.directories)
    )
    return ViewPlan(
        overlays,
        (
            *_plan_scratch(shape),
            *_plan_overlays(facts, overlays, shape.shared),
            *(Bind(_EMPTY, path) for path in shape.hidden_stages),
        ),
    )


def plan_job(view: ViewPlan, outputs: Sequence[LocatedOutput] = (), scratch_directory: str = "") -> JobPlan:
    """The view of one job. `scratch_directory` is an empty host directory, for a box whose scratch is on disk."""
    stages = _list_stages(outputs)
    places = [f"{STAGE}/{index}" for index in range(len(stages))]
    bound = [one.output for one in outputs if one.output.kind == "directory" and _is_covered(one.folder.path, view)]
    take = [TakeTree(place, stage, recursive=False) for place, stage in zip(places, stages, strict=True)]
    if scratch_directory:
        take.append(TakeTree(SCRATCH, scratch_directory, recursive=False))
    return JobPlan(
        overlays=view.overlays,
        stages=stages,
        take=tuple(take),
        build=view.build,
        show=(
            Bind(_VIEW, SCRATCH),
            *(PlaceTree(place, place) for place in places),
            *(operation for output in bound for operation in _plan_directory_output(output, stages)),
        ),
        freeze=tuple(
            SetAttributes(target, read_only=True)
            for target in (*(overlay.target for overlay in view.overlays), *places, *(output.path for output in bound))
        ),
        placed=frozenset([output.path for output in bound]),
    )


def staged_in_box(output: StagedOutput, stages: Sequence[str]) -> str:
    """Where the staged content of `output` is, as a task names it."""
    directory, name = os.path.split(output.staged)
    return f"{STAGE}/{stages.index(directory)}/{name}"


def _plan_dev(devices: Sequence[KnownPath], shared: Sequence[KnownPath]) -> Iterable[Operation]:
    yield MountTmpfs("/dev", size="64k", noexec=True)
    for device in devices:
        yield _mount_point(device)
        yield PlaceTree(device.path, device.path)
    for name, says in _DEVICE_LINKS:
        yield MakeSymlink(f"/dev/{name}", says)
    yield MakeDirectory("/dev/pts")
    yield MountDevpts("/dev/pts")
    yield from _mount_points_below("/dev", shared)
    yield SetAttributes("/dev", read_only=True)


def _plan_run(
    kept: Sequence[KnownPath], links: Sequence[tuple[str, str]], shared: Sequence[KnownPath]
) -> Iterable[Operation]:
    yield MountTmpfs("/run", size="1m")
    for one in kept:
        yield _mount_point(one)
        yield PlaceTree(one.path, one.path)
    for name, says in links:
        yield MakeSymlink(f"/run/{name}", says)
    yield MakeDirectory(SCRATCH)
    yield from _mount_points_below("/run", shared)
    yield SetAttributes("/run", read_only=True)


def _mount_points_below(directory: str, shared: Sequence[KnownPath]) -> Iterable[Operation]:
    """Something to mount each of `shared` on, where `directory` was replaced by an empty one."""
    below = [one for one in shared if is_below(one.path, directory) and one.path != directory]
    for one in below:
        if not any(one.path != other.path and is_below(one.path, other.path) for other in below):
            yield _mount_point(one)


def _mount_point(one: KnownPath) -> Operation:
    return MakeDirectory(one.path) if one.is_directory else MakeFile(one.path)


def _plan_scratch(shape: Shape) -> Iterable[Operation]:
    yield PlaceTree(SCRATCH, SCRATCH) if shape.is_on_disk else MountTmpfs(SCRATCH, shape.scratch_size)
    yield MakeDirectory(_VIEW)
    yield MakeDirectory(f"{_VIEW}/tmp", 0o700)
    yield MakeDirectory(f"{_VIEW}/shm", 0o1777)
    yield MakeDirectory(STAGE.replace(SCRATCH, _VIEW))
    for index in range(shape.stages):
        yield MakeDirectory(f"{STAGE.replace(SCRATCH, _VIEW)}/{index}")
    if shape.hidden_stages:
        yield MakeDirectory(_EMPTY, 0o555)


def _plan_overlays(facts: HostFacts, overlays: Sequence[Overlay], shared: Sequence[KnownPath]) -> Iterable[Operation]:
    """The overlays, the deepest first: one that lies below another is then among the mounts put back on that."""
    targets = [overlay.target for overlay in overlays]
    for overlay in reversed(overlays):
        upper, work = f"{SCRATCH}/{overlay.upper}", f"{SCRATCH}/{overlay.upper.replace('upper', 'work')}"
        yield MakeDirectory(upper)
        yield MakeDirectory(work)
        yield CopyAttributes(overlay.target, upper)
        kept = _mounts_to_keep(overlay.target, facts, [*targets, *(one.path for one in shared)])
        for path in kept:
            yield TakeTree(path, path)
        yield MountOverlay((overlay.target,), overlay.target, upper=upper, work=work, userxattr=facts.in_user_namespace)
        for path in kept:
            yield PlaceTree(path, path)


def _mounts_to_keep(target: str, facts: HostFacts, ours: Sequence[str]) -> list[str]:
    """The points of mounts directly below `target` that an overlay of it would hide: the machine's and ours."""
    visible = {mount.mount_point for mount in mounts_below(facts.mounts, target) if _is_visible(mount, facts)}
    points = sorted(path for path in {*visible, *ours, *facts.hidden} if path != target and is_below(path, target))
    return [one for one in points if not any(one != other and is_below(one, other) for other in points)]


def _is_visible(mount: Mount, facts: HostFacts) -> bool:
    """True if `mount` is what a walk to its point meets: not covered by another one, nor masked in the template."""
    if mount.is_deleted or any(is_below(mount.mount_point, hidden) for hidden in facts.hidden):
        return False
    found = find_mount(facts.mounts, mount.mount_point)
    return found is not None and found.mount_point == mount.mount_point


def _plan_directory_output(output: StagedOutput, stages: Sequence[str]) -> Iterable[Operation]:
    yield MakeDirectory(output.path)
    yield Bind(staged_in_box(output, stages), output.path)


def _list_stages(outputs: Sequence[LocatedOutput]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(os.path.dirname(one.output.staged) for one in outputs))


def _find_hidden_stages(stages: Sequence[str], cover: Cover) -> tuple[str, ...]:
    """The `.jubako-stage` directories that `stages` are in, each once, but for those of which a box sees nothing."""
    found: dict[str, None] = {}
    for stage in stages:
        above, hidden, name = stage.partition(f"/{_HIDDEN_STAGE}")
        is_replaced = any(is_below(above, directory) for directory in OWN_VIEW)
        if hidden and (not is_replaced or any(is_below(above, directory) for directory in cover.directories)):
            found[above + hidden + name.partition("/")[0]] = None
    return tuple(found)


def _is_covered(path: str, view: ViewPlan) -> bool:
    return any(is_below(path, overlay.target) for overlay in view.overlays)
