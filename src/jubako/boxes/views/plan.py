"""Plans the view of a task: what is mounted once for a worker and a box, and what is added for one job. Pure.

The template (`plan_template`) is a mount namespace of binds only: everything read-only, /dev and /run replaced,
sockets that control other things masked, jubako's own state hidden, and what the box shares put back read-write. No
overlay is in it: a lower directory that others publish into is undefined once looked up, so no overlay outlives a job.

A job (`plan_job`) gets a copy of that namespace with one more tmpfs, the scratch, on /run/jubako:

    /run/jubako/upper-0, work-0, ...   the tops of the overlays; covered by the next line before the task starts
    /run/jubako/view     bound on /run/jubako itself, so that the task sees only:
        tmp/             TMPDIR
        shm/             what /dev/shm links to
        stage/K/         the attempt's staging directory on mount K, read-write

The overlays, and the copies of single files, are planned in `plan_tops`.
"""

from __future__ import annotations

import os

from jubako.boxes.views.cover import OWN_VIEW, Cover
from jubako.boxes.views.facts import HostFacts, KnownPath, Place, is_below
from jubako.boxes.views.operations import (
    Bind,
    MakeDirectory,
    MakeFile,
    MakeSymlink,
    MaskDirectory,
    MaskFile,
    MountDevpts,
    MountTmpfs,
    Operation,
    PlaceTree,
    SetAttributes,
    SetPropagation,
    TakeTree,
)
from jubako.boxes.views.plan_tops import (
    SCRATCH,
    SHM,
    SHM_IN_SCRATCH,
    Overlay,
    find_top,
    list_private_tops,
    plan_overlays,
    plan_top_directories,
    plan_tops,
)
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jubako.boxes.spec import Box, StagedOutput

__all__ = [
    "STAGE",
    "TMP",
    "TMP_IN_SCRATCH",
    "JobPlan",
    "LocatedOutput",
    "Shape",
    "ViewPlan",
    "is_shown",
    "locate_output",
    "plan_job",
    "plan_shape",
    "plan_template",
    "plan_view",
    "staged_in_box",
]

TMP = f"{SCRATCH}/tmp"
STAGE = f"{SCRATCH}/stage"

TMP_IN_SCRATCH = "view/tmp"

_VIEW = f"{SCRATCH}/view"
_EMPTY = f"{SCRATCH}/empty"
_DEFAULT_SCRATCH_SIZE = "50%"
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("shm", f"{SCRATCH}/shm"),
)


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
    files: tuple[str, ...]  # to copy
    shared: tuple[KnownPath, ...]
    stages: int
    hidden: tuple[str, ...]  # directories to hide that the template shows (`is_shown`)
    scratch_size: str = _DEFAULT_SCRATCH_SIZE
    is_on_disk: bool = False


@record
class ViewPlan:
    """What views of one shape share."""

    overlays: tuple[Overlay, ...]
    ahead: tuple[Operation, ...]  # in a copy of the template; looks at nothing that is published, so it may come early
    build: tuple[Operation, ...]  # after it, when the job is there
    private: tuple[str, ...]  # directories that are the box's own and empty at the start, and can be written
    has_new_root: bool  # who entered the view before it was built is not in it
    watched: tuple[str, ...]  # directories in the scratch that a job may write in, and does so seldom


@record
class JobPlan:
    """How one job's view is made, in steps that happen in different places."""

    overlays: tuple[Overlay, ...]
    stages: tuple[str, ...]  # the staging directories, K being the index
    take: tuple[Operation, ...]  # in the worker's own mount namespace, where staging directories are writable
    build: tuple[Operation, ...]  # in a copy of the template, after what the view's plan has done there ahead
    show: tuple[Operation, ...]  # after the scratch was opened, which this covers
    freeze: tuple[Operation, ...]  # before check(): nothing of the result can be changed any more
    placed: frozenset[str]  # declared paths of the directory outputs that are put in place
    has_new_root: bool  # as for `ViewPlan`
    watched: tuple[str, ...]


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
        *(TakeTree(one.path, one.path) for one in devices),  # before no other device can be opened
        SetAttributes("/", read_only=True, nosuid=True, nodev=True, recursive=True),
        *(TakeTree(one.path, one.path) for one in (*run_files, *run_mounts)),
        *_plan_dev(devices, shared),
        *_plan_run([*run_files, *run_mounts], facts.run_links, shared),
        *(MaskDirectory(path) for path in facts.masked_directories),
        *(MaskFile(path, "/dev/null") for path in facts.control_sockets),
        *(MaskDirectory(path) for path in facts.hidden if not is_below(path, "/run")),
        *(PlaceTree(one.path, one.path) for one in shared),
    )


def plan_shape(
    box: Box,
    cover: Cover,
    outputs: Sequence[LocatedOutput] = (),
    shared: tuple[KnownPath, ...] = (),
    hidden: tuple[str, ...] = (),
    elsewhere: Sequence[StagedOutput] = (),
) -> Shape:
    """The shape of the view of a job. `hidden` are directories that the template shows and that it must not see.

    `elsewhere` are the outputs that have no place on this machine.
    """
    return Shape(
        directories=_without_shared(cover.directories, shared),
        files=_without_shared(cover.files, shared),
        shared=shared,
        stages=len(_list_stages(outputs, elsewhere)),
        hidden=hidden,
        scratch_size=_DEFAULT_SCRATCH_SIZE if box.scratch_size_bytes is None else str(box.scratch_size_bytes),
        is_on_disk=box.scratch == "disk",
    )


def plan_view(shape: Shape, facts: HostFacts) -> ViewPlan:
    """What views of this shape are built with."""
    has_new_root = "/" in shape.directories
    directories = (*shape.directories, "/run") if has_new_root else shape.directories
    overlays = plan_tops(directories, shape.files, shape.shared, facts)
    private = list_private_tops(overlays)
    return ViewPlan(
        overlays,
        ahead=(*_plan_scratch(shape), *plan_top_directories(overlays)),
        build=(
            *plan_overlays(overlays, volatile=shape.is_on_disk, userxattr=facts.in_user_namespace),
            *(Bind(_EMPTY, path) for path in shape.hidden),
        ),
        private=tuple(one.target for one in private),
        has_new_root=has_new_root,
        # What is written into a file that is there does not show in the directory.
        watched=(TMP_IN_SCRATCH, *dict.fromkeys(one.upper for one in (*overlays, *private) if not one.is_file)),
    )


def plan_job(
    view: ViewPlan,
    outputs: Sequence[LocatedOutput] = (),
    scratch_directory: str = "",
    elsewhere: Sequence[StagedOutput] = (),
) -> JobPlan:
    """The view of one job. `scratch_directory` is an empty host directory, for a box whose scratch is on disk."""
    stages = _list_stages(outputs, elsewhere)
    places = [f"{STAGE}/{index}" for index in range(len(stages))]
    bound = [
        one.output
        for one in outputs
        if one.output.kind == "directory" and find_top(one.folder.path, view.overlays) is not None
    ]
    # This machine has these folders, so the job may count on them.
    made = {one.folder.path for one in outputs if any(is_below(one.folder.path, path) for path in view.private)}
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
            *(MakeDirectory(folder) for folder in sorted(made)),
            *(operation for output in bound for operation in _plan_directory_output(output, stages)),
        ),
        freeze=(
            *(SetAttributes(overlay.target, read_only=True) for overlay in view.overlays),
            *(SetAttributes(path, read_only=True) for path in (*places, *(output.path for output in bound))),
            *(_freeze_shm() if any(is_below(folder, SHM) for folder in made) else ()),
        ),
        placed=frozenset([output.path for output in bound]),
        has_new_root=view.has_new_root,
        watched=view.watched,
    )


def is_shown(path: str, facts: HostFacts, shared: Sequence[KnownPath] = ()) -> bool:
    """True if the template of a box that shares `shared` shows `path`, a real one, as it is on this machine."""
    if any(is_below(path, one.path) for one in shared):
        return True
    if any(is_below(path, hidden) for hidden in (*facts.hidden, *facts.masked_directories)):
        return False
    is_replaced = any(is_below(path, directory) for directory in OWN_VIEW)
    return not is_replaced or any(is_below(path, point) for point in facts.run_mounts)


def staged_in_box(output: StagedOutput, stages: Sequence[str]) -> str:
    """Where the staged content of `output` is, as a task names it."""
    directory, name = os.path.split(output.staged)
    return f"{STAGE}/{stages.index(directory)}/{name}"


def _plan_dev(devices: Sequence[KnownPath], shared: Sequence[KnownPath]) -> Iterable[Operation]:
    yield MountTmpfs("/dev", size="64k", noexec=True)
    for device in devices:
        yield _mount_point(device)
        yield PlaceTree(device.path, device.path)
        yield SetAttributes(device.path, read_only=True, nosuid=True, recursive=True)
    own = {one.path for one in shared}
    for name, says in _DEVICE_LINKS:
        if f"/dev/{name}" not in own:
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
    yield MakeDirectory(f"{SCRATCH}/{TMP_IN_SCRATCH}", 0o700)
    yield MakeDirectory(f"{SCRATCH}/{SHM_IN_SCRATCH}", 0o1777)
    yield MakeDirectory(STAGE.replace(SCRATCH, _VIEW))
    for index in range(shape.stages):
        yield MakeDirectory(f"{STAGE.replace(SCRATCH, _VIEW)}/{index}")
    if shape.hidden:
        yield MakeDirectory(_EMPTY, 0o555)


def _plan_directory_output(output: StagedOutput, stages: Sequence[str]) -> Iterable[Operation]:
    yield MakeDirectory(output.path)
    yield Bind(staged_in_box(output, stages), output.path)


def _list_stages(outputs: Sequence[LocatedOutput], elsewhere: Sequence[StagedOutput]) -> tuple[str, ...]:
    staged = (*(one.output for one in outputs), *elsewhere)
    return tuple(dict.fromkeys(os.path.dirname(one.staged) for one in staged))


def _without_shared(paths: tuple[str, ...], shared: Sequence[KnownPath]) -> tuple[str, ...]:
    """`paths` without those that the box shares: an overlay there would hide what was put back to be shared."""
    if not shared:
        return paths
    return tuple(path for path in paths if not any(is_below(path, one.path) for one in shared))


def _freeze_shm() -> Iterable[Operation]:
    """What /dev/shm links to is a directory of the scratch; to be read-only it must be a mount."""
    shm = f"{SCRATCH}/shm"
    yield Bind(shm, shm, recursive=True)
    yield SetAttributes(shm, read_only=True)
