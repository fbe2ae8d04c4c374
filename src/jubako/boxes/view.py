"""Makes the views a worker's jobs run in: templates once, and for each job a mount namespace of its own.

    views = Views(facts, ...)
    view = views.open(job, environment)
    ...                             a process joins it with setns(view.namespace_fd)
    view.close()                    the mounts are gone as soon as no process is in them

The process must be single-threaded (setns(2)) and hold CAP_SYS_ADMIN in the user namespace of its mounts. Its own mount
namespace shows the machine as it is, writable; staging directories are taken from there. It is in a view only for the
length of a call. The tops (`view.scratch`) stay readable from outside until `close`.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from jubako.boxes.apply import OperationFailed, apply_operations, close_trees
from jubako.boxes.cover import Cover, plan_cover
from jubako.boxes.facts import HostFacts, KnownPath, Place, find_place, read_known_paths
from jubako.boxes.operations import MountOverlay, PlaceTree, SetPropagation
from jubako.boxes.plan import (
    SCRATCH,
    JobPlan,
    LocatedOutput,
    Shape,
    ViewPlan,
    locate_output,
    plan_job,
    plan_shape,
    plan_template,
    plan_view,
)
from jubako.boxes.supervisor import Dead
from jubako.errors import HostError
from jubako.kernel.namespaces import CLONE_NEWNS, open_namespace, setns, unshare
from jubako.layers.remove import remove_tree
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jubako.boxes.job import Job
    from jubako.boxes.spec import Box

__all__ = ["View", "Views"]

_REMEMBERED = 1024  # covers and plans; making one takes longer than mounting it
_TEMPLATES = 8  # kept at a time; each is a mount namespace with all of the machine's mounts


@record
class _Template:
    """The mount namespace that a box's jobs start from."""

    namespace_fd: int
    shared: tuple[KnownPath, ...]


@record(frozen=False)
class View:
    """What one job sees. Closed once."""

    plan: JobPlan
    outputs: tuple[LocatedOutput, ...]
    home: str
    scratch: str  # the tops, as a path of this process: valid in every mount namespace
    namespace_fd: int
    _own_fd: int
    _scratch_fd: int
    _scratch_directory: str = ""

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Puts this process into the view, and back."""
        setns(self.namespace_fd, CLONE_NEWNS)
        try:
            yield
        finally:
            setns(self._own_fd, CLONE_NEWNS)

    def freeze(self) -> None:
        """Makes everything that may become part of the result read-only."""
        with self.entered():
            apply_operations(self.plan.freeze)

    def close(self) -> Dead:
        """Lets go of the view and all that was written in it; no process may live in it any more.

        What comes back is the caller's to take away. That waits for a while, as the kernel does with mounts.
        """
        return Dead((self.namespace_fd, self._scratch_fd), self._scratch_directory)


class Views:
    """The templates of one worker, and the views made from them."""

    def __init__(self, facts: HostFacts, proc_fd: int, *, scratch_root: str = "") -> None:
        """`proc_fd`: a detached /proc of the jobs' pid namespace, which is taken over. `scratch_root`: where scratch on
        disk may be made, a directory of this run below the state root.
        """
        self.notes: list[str] = []  # what a job cannot have on this machine; the owner tells and empties them
        self._facts = facts
        self._scratch_root = scratch_root
        self._own_fd = open_namespace("mnt")
        # In a view /proc is that of the jobs' pid namespace, where this process has no entry.
        self._self_fd = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._base_fd = self._make_base(proc_fd)
        self._templates: dict[tuple[object, ...], _Template] = {}
        self._lasting: dict[str, Place] = {}
        self._plans: dict[Shape, ViewPlan] = {}
        self._covers: dict[tuple[tuple[str, bool], ...], Cover] = {}
        self._refused: set[str] = set()
        self._told: set[str] = set()

    def prepare(self, box: Box) -> None:
        """Makes the template of `box` now, so that what this machine refuses is known early. Raises HostError."""
        self._find_template(box)

    def open(self, job: Job, environment: Mapping[str, str], announce: Callable[[int], None] = lambda fd: None) -> View:
        """The view of `job`. Raises HostError where it cannot be made.

        `announce` is called with the mount namespace as soon as there is one, while nothing is mounted in it yet; and
        again with another one, where the first had to be given up.
        """
        outputs = tuple(
            locate_output(output, find_place(os.path.dirname(output.path), f"the output {output.path}", self._facts))
            for output in job.outputs
        )
        home = environment.get("HOME", "")
        template = self._find_template(job.box)
        while True:
            cover = self._find_cover(job, home, outputs)
            try:
                return self._make(job, cover, template, outputs, home, announce)
            except OperationFailed as failure:
                if not isinstance(failure.operation, MountOverlay):
                    raise
                self._refused.add(failure.operation.target)
                self._covers.clear()

    def _make(
        self,
        job: Job,
        cover: Cover,
        template: _Template,
        outputs: tuple[LocatedOutput, ...],
        home: str,
        announce: Callable[[int], None],
    ) -> View:
        directory = self._make_scratch_directory(job)
        trees: dict[str, int] = {}
        fds: list[int] = []
        try:
            plan = plan_job(self._find_plan(plan_shape(job.box, cover, outputs, template.shared)), outputs, directory)
            apply_operations(plan.take, trees)
            setns(template.namespace_fd, CLONE_NEWNS)
            try:
                unshare(CLONE_NEWNS)
                fds.append(self._open_current())
                announce(fds[0])
                apply_operations(plan.build, trees)
                fds.append(os.open(SCRATCH, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
                apply_operations(plan.show, trees)
            finally:
                setns(self._own_fd, CLONE_NEWNS)
        except BaseException:
            close_trees(trees)
            for fd in fds:
                os.close(fd)
            if directory:
                remove_tree(directory)
            raise
        namespace_fd, scratch_fd = fds
        return View(
            plan=plan,
            outputs=outputs,
            home=home,
            scratch=f"/proc/self/fd/{scratch_fd}",
            namespace_fd=namespace_fd,
            _own_fd=self._own_fd,
            _scratch_fd=scratch_fd,
            _scratch_directory=directory,
        )

    def _find_plan(self, shape: Shape) -> ViewPlan:
        plan = self._plans.get(shape)
        if plan is None:
            if len(self._plans) >= _REMEMBERED:
                self._plans.clear()
            plan = self._plans[shape] = plan_view(shape, self._facts)
        return plan

    def _find_cover(self, job: Job, home: str, outputs: tuple[LocatedOutput, ...]) -> Cover:
        named = ((job.cwd, "the working directory"), (home, "the home directory"), ("/tmp", "/tmp"))
        places = [self._find_lasting(path, purpose) for path, purpose in named if path]
        places += [one.folder for one in outputs]
        key = tuple([(place.path, place.writable) for place in places])
        cover = self._covers.get(key)
        if cover is None:
            if len(self._covers) >= _REMEMBERED:
                self._covers.clear()
            cover = self._covers[key] = plan_cover(places, self._facts, self._refused)
            self._tell(cover)
        return cover

    def _find_lasting(self, path: str, purpose: str) -> Place:
        """A place that stays what it is while the run lasts."""
        place = self._lasting.get(path)
        if place is None:
            place = self._lasting[path] = find_place(path, purpose, self._facts)
        return place

    def _tell(self, cover: Cover) -> None:
        for note in cover.notes:
            if note not in self._told:
                self._told.add(note)
                self.notes.append(note)

    def _find_template(self, box: Box) -> _Template:
        key = (box.binds, box.cache, box.sockets)
        template = self._templates.get(key)
        if template is None:
            if len(self._templates) >= _TEMPLATES:
                oldest = next(iter(self._templates))
                os.close(self._templates.pop(oldest).namespace_fd)
            template = self._templates[key] = self._make_template(box)
        return template

    def _open_current(self) -> int:
        """A descriptor of the mount namespace this process is in now."""
        return os.open("ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._self_fd)

    def _make_base(self, proc_fd: int) -> int:
        """A copy of this machine's mounts with the jobs' /proc."""
        unshare(CLONE_NEWNS)
        try:
            apply_operations([SetPropagation("/", "private"), PlaceTree("proc", "/proc")], {"proc": proc_fd})
            return self._open_current()
        finally:
            setns(self._own_fd, CLONE_NEWNS)

    def _make_template(self, box: Box) -> _Template:
        shared = _prepare_shared(box)
        setns(self._base_fd, CLONE_NEWNS)
        try:
            unshare(CLONE_NEWNS)
            apply_operations(plan_template(self._facts, shared))
            return _Template(self._open_current(), shared)
        finally:
            setns(self._own_fd, CLONE_NEWNS)

    def _make_scratch_directory(self, job: Job) -> str:
        if job.box.scratch == "memory":
            return ""
        if not self._scratch_root:
            raise HostError(
                f"{job.label} asks for scratch on disk, but this run has no staging directory",
                hint="use scratch='memory'",
            )
        directory = os.path.join(self._scratch_root, f"{job.id}.scratch")
        os.mkdir(directory, 0o700)
        return directory


def _prepare_shared(box: Box) -> tuple[KnownPath, ...]:
    """What `box` shares, made where it may be made. Raises HostError naming what is missing."""
    try:
        for path in box.cache:
            os.makedirs(path, exist_ok=True)
        return read_known_paths((*box.binds, *box.cache, *box.sockets))
    except OSError as error:
        raise HostError(
            f"the box is to share {error.filename}, which cannot be found: {error.strerror}",
            hint="make it first, or take it out of binds, cache or sockets",
        ) from error
