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
from contextlib import contextmanager, suppress

from jubako.boxes.links import Dead
from jubako.boxes.views.apply import OperationFailed, apply_operations, close_trees
from jubako.boxes.views.bound_files import Copies, note_copies
from jubako.boxes.views.cover import Cover, plan_cover
from jubako.boxes.views.facts import HostFacts, KnownPath, Place, find_place, read_known_paths
from jubako.boxes.views.glance import DirectoryState, read_state
from jubako.boxes.views.operations import MountOverlay, PlaceTree, SetPropagation
from jubako.boxes.views.plan import (
    JobPlan,
    LocatedOutput,
    Shape,
    ViewPlan,
    is_shown,
    locate_output,
    plan_job,
    plan_shape,
    plan_template,
    plan_view,
)
from jubako.boxes.views.plan_tops import SCRATCH
from jubako.errors import HostError
from jubako.kernel.namespaces import CLONE_NEWNS, open_namespace, setns, unshare
from jubako.layers.remove import remove_tree
from jubako.records import field, record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from jubako.boxes.job import Job
    from jubako.boxes.spec import Box, StagedOutput
    from jubako.boxes.views.plan_wide import WideFacts

__all__ = ["View", "Views"]

_REMEMBERED = 1024  # covers and plans; making one takes longer than mounting it
_WIDE_NOTE = (
    "without root, Box(Host(whole=True)) is copy-on-write only where this user can write; everything else is read-only"
)
_TEMPLATES = 8  # kept at a time; each is a mount namespace with all of the machine's mounts


@record
class _Template:
    """The mount namespace that a box's jobs start from."""

    namespace_fd: int
    shared: tuple[KnownPath, ...]


@record
class _Begun:
    """A view that a job may move into: its scratch is there, and nothing that others publish into was looked at."""

    template: _Template
    plan: ViewPlan
    namespace_fd: int
    scratch_fd: int

    def close(self) -> None:
        os.close(self.namespace_fd)
        os.close(self.scratch_fd)


@record(frozen=False)
class View:
    """What one job sees. Closed once."""

    plan: JobPlan
    outputs: tuple[LocatedOutput, ...]
    elsewhere: tuple[StagedOutput, ...]  # outputs that have no place on this machine
    home: str
    scratch: str  # the tops, as a path of this process: valid in every mount namespace
    before: Mapping[str, DirectoryState]  # what directories in the scratch were before the job, if it is in memory
    namespace_fd: int
    copies: Copies  # of single files, for `drop_untouched_files`
    _own_fd: int
    _scratch_fd: int
    _scratch_directory: str = ""
    plain: set[str] = field(default_factory=set)  # uppers found to hold nothing but links to outputs

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
        self._covers: dict[tuple[object, ...], Cover] = {}
        self._wide_facts: dict[tuple[str, str], WideFacts] = {}
        self._hidden: dict[tuple[str, tuple[KnownPath, ...]], str] = {}
        self._refused: set[str] = set()
        self._last: tuple[_Template, ViewPlan] | None = None  # what the last job got, if it may be begun without a job
        self._begun: _Begun | None = None
        self._told: set[str] = set()

    def prepare(self, box: Box) -> None:
        """Makes the template of `box` now, so that what this machine refuses is known early. Raises HostError."""
        self._find_template(box)

    def begin_next(self) -> None:
        """Begins a view like the last one, while nobody waits for it: most jobs are like the one before."""
        if self._begun is None and self._last is not None:
            with suppress(HostError, OSError):  # the next job will say it
                self._begun = self._begin(*self._last, {})

    def open(self, job: Job, environment: Mapping[str, str], announce: Callable[[int], None] = lambda fd: None) -> View:
        """The view of `job`. Raises HostError where it cannot be made.

        `announce` is called with the mount namespace as soon as it can be entered, mostly before anything is mounted in
        it; and again with another one, where the first had to be given up.
        """
        outputs = tuple(
            locate_output(output, find_place(os.path.dirname(output.path), f"the output {output.path}", self._facts))
            for output in job.outputs
            if output.kind != "elsewhere"
        )
        home = environment.get("HOME", "")
        template = self._find_template(job.box)
        while True:
            cover = self._find_cover(job, environment, outputs)
            try:
                return self._make(job, cover, template, outputs, home, announce)
            except OperationFailed as failure:
                refused = failure.operation.lowers[-1] if isinstance(failure.operation, MountOverlay) else ""
                if refused == "/" or refused not in cover.directories:
                    raise
                self._refused.add(refused)
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
        begun: _Begun | None = None
        elsewhere = tuple([output for output in job.outputs if output.kind == "elsewhere"])
        try:
            hidden = tuple([shown for path in job.hidden if (shown := self._find_hidden(path, template.shared))])
            shape = plan_shape(job.box, cover, outputs, template.shared, hidden, elsewhere)
            view_plan = self._find_plan(shape)
            plan = plan_job(view_plan, outputs, directory, elsewhere)
            apply_operations(plan.take, trees)
            begun = self._take_begun(template, view_plan) or self._begin(template, view_plan, trees)
            self._last = None if directory else (template, view_plan)
            setns(begun.namespace_fd, CLONE_NEWNS)
            try:
                if not plan.has_new_root:
                    announce(begun.namespace_fd)
                apply_operations(plan.build, trees)
                before = {} if directory else {name: read_state(name, dir_fd=begun.scratch_fd) for name in plan.watched}
                if plan.has_new_root:
                    announce(begun.namespace_fd)
                apply_operations(plan.show, trees)
            finally:
                setns(self._own_fd, CLONE_NEWNS)
            scratch = f"/proc/self/fd/{begun.scratch_fd}"
            files = [one for one in plan.overlays if one.is_file]
            copies = note_copies(f"{scratch}/{one.upper}/{os.path.basename(one.target)}" for one in files)
        except BaseException:
            close_trees(trees)
            if begun is not None:
                begun.close()
            if directory:
                remove_tree(directory)
            raise
        return View(
            plan=plan,
            outputs=outputs,
            elsewhere=elsewhere,
            home=home,
            scratch=scratch,
            before=before,
            namespace_fd=begun.namespace_fd,
            copies=copies,
            _own_fd=self._own_fd,
            _scratch_fd=begun.scratch_fd,
            _scratch_directory=directory,
        )

    def _begin(self, template: _Template, plan: ViewPlan, trees: dict[str, int]) -> _Begun:
        setns(template.namespace_fd, CLONE_NEWNS)
        try:
            unshare(CLONE_NEWNS)
            namespace_fd = self._open_current()
            try:
                apply_operations(plan.ahead, trees)
                scratch_fd = os.open(SCRATCH, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except BaseException:
                os.close(namespace_fd)
                raise
        finally:
            setns(self._own_fd, CLONE_NEWNS)
        return _Begun(template, plan, namespace_fd, scratch_fd)

    def _take_begun(self, template: _Template, plan: ViewPlan) -> _Begun | None:
        """What was begun, if it is what this job needs; otherwise it is let go."""
        begun, self._begun = self._begun, None
        if begun is not None and (begun.template is not template or begun.plan is not plan):
            begun.close()
            return None
        return begun

    def _find_plan(self, shape: Shape) -> ViewPlan:
        plan = self._plans.get(shape)
        if plan is None:
            if len(self._plans) >= _REMEMBERED:
                self._plans.clear()
            plan = self._plans[shape] = plan_view(shape, self._facts)
        return plan

    def _find_cover(self, job: Job, environment: Mapping[str, str], outputs: tuple[LocatedOutput, ...]) -> Cover:
        home, is_wide = environment.get("HOME", ""), job.box.base.whole
        named = ((job.cwd, "the working directory"), (home, "the home directory"), ("/tmp", "/tmp"))
        places = [self._find_lasting(path, purpose) for path, purpose in named if path]
        places += [one.folder for one in outputs]
        key = (is_wide, *[(place.path, place.writable, place.unmapped) for place in places])
        cover = self._covers.get(key)
        if cover is None:
            if len(self._covers) >= _REMEMBERED:
                self._covers.clear()
            if is_wide:
                cover = self._plan_wide_cover(job.cwd, environment, places)
            else:
                cover = plan_cover(places, self._facts, self._refused)
            self._covers[key] = cover
            self._tell(cover)
        return cover

    def _plan_wide_cover(self, cwd: str, environment: Mapping[str, str], places: Sequence[Place]) -> Cover:
        # 15 ms to import, which every worker would pay and few need.
        from jubako.boxes.views.plan_wide import plan_wide_cover
        from jubako.boxes.views.wide_facts import add_places, read_cover_facts

        key = (cwd, environment.get("HOME", ""))
        facts = self._wide_facts.get(key)
        if facts is None:
            facts = self._wide_facts[key] = read_cover_facts(self._facts, environment, cwd)
        cover = plan_wide_cover(add_places(facts, places), self._refused)
        return replace(cover, notes=(_WIDE_NOTE, *cover.notes)) if self._facts.in_user_namespace else cover

    def _find_hidden(self, path: str, shared: tuple[KnownPath, ...]) -> str:
        """The real path of a directory that is to be hidden and that the template does not hide; "" if there is none.

        One that lies where this worker cannot see it, on a disk mounted after its start, none of its jobs can.
        """
        found = self._hidden.get((path, shared))
        if found is None:
            real = os.path.realpath(path)
            found = real if os.path.isdir(real) and is_shown(real, self._facts, shared) else ""
            self._hidden[path, shared] = found
        return found

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
                self._last = None  # it may have been of that one
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
