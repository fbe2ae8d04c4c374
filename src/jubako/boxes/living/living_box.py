"""Living boxes from Python: made, found, used and let go of.

    with create_box(name="web") as box:                     # removed at the end of the block, unless keep() was said
        box.run(["pip", "install", "flask"], stdio=...)     # as often as you like, several at once
        with box.start_program(["python", "-m", "http.server"], stdio=(PIPE, PIPE, PIPE)) as server:
            ...
        for change in box.changes():
            print(change.kind, change.path)
        box.stop()
        box.commit(["/usr/local"])

A box goes on without the process that made it. What one is doing is asked every time: nothing here remembers it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from jubako.boxes.commands.first import Program as BoxProgram
from jubako.boxes.commands.launch import fit_program
from jubako.boxes.living import control, life
from jubako.boxes.living.find import get_living, list_living
from jubako.boxes.living.origins import Origin, Origins
from jubako.boxes.living.program import Ordered, Program, start_program
from jubako.boxes.nesting import MARK
from jubako.boxes.spec import WHOLE_HOST
from jubako.boxes.state import default_state_root
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Any, BinaryIO, Self

    from jubako.boxes.commands.commit import Committed
    from jubako.boxes.living.control import Line
    from jubako.boxes.living.find import Found
    from jubako.boxes.spec import Box
    from jubako.boxes.state import StateRoot
    from jubako.layers.change import Change

__all__ = ["GRACE_S", "LivingBox", "create_box", "find_box", "living_boxes"]

GRACE_S = 10.0
_TRIES = 3


class LivingBox:
    """A box with a name, which runs or is stopped, and keeps what is written in it until it is removed."""

    def __init__(self, box_id: str, state: StateRoot, notes: tuple[str, ...] = ()) -> None:
        self.id = box_id
        self.state = state
        self.notes = notes  # what this machine did not allow when it was last started from here, in words
        self._is_kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._is_kept:
            self.remove(force=True)

    @property
    def found(self) -> Found:
        """The box as it is now. InputError if it was removed."""
        return get_living(self.state, self.id)

    @property
    def name(self) -> str:
        return self.found.name

    @property
    def is_running(self) -> bool:
        return control.is_running(self.directory)

    @property
    def directory(self) -> str:
        """Where its files are on this machine."""
        return os.path.join(self.state.boxes_path, self.id)

    def keep(self) -> Self:
        """Leaves the box at the end of the `with` block."""
        self._is_kept = True
        return self

    def start(self, *, environment: Mapping[str, str] | None = None) -> None:
        """Starts a box that doesn't run, with its main command. ConflictError if it runs."""
        line, self.notes = life.start_living(
            self.found, self.state, environment=dict(os.environ if environment is None else environment)
        )
        line.close()

    def stop(self, *, grace_s: float = GRACE_S) -> bool:
        """Ends what runs in it: SIGTERM, `grace_s` seconds, SIGKILL. False if it didn't run."""
        return life.stop_living(self.found, grace_s=grace_s)

    def remove(self, *, force: bool = False) -> None:
        """Removes it and all it holds. ConflictError if it runs, unless `force`."""
        life.remove_living(self.found, self.state, force=force)

    def run(self, argv: Sequence[str], **options: Any) -> int:
        """Runs a program in it and waits for that; its status as a shell shows it. As `start_program` else."""
        with self.start_program(argv, **options) as program:
            return program.wait()

    def start_program(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        environment: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        stdio: tuple[int, int, int] = (0, 1, 2),
        tty: bool = False,
        detach: bool = False,
    ) -> Program:
        """Starts a program in the box; a box that doesn't run is started for it, and ends with the last such program.

        `cwd` is a path in the box, the one it was made in by default; `environment` is this process's, with
        what the box says above it, and `settings` above all; `stdio` are descriptors or PIPE. With `tty` it gets a
        terminal of the box's instead: `Program.terminal` is the master. With `detach` nobody waits for it.
        Raises CommandNotStarted if it cannot be executed.
        """
        if not argv or not argv[0] or any("\0" in word for word in argv):
            raise InputError("the command is empty or holds a null byte")
        found = self.found
        given = dict(os.environ if environment is None else environment)
        fitted = fit_program(BoxProgram(argv, found.record.cwd, given), found.living.box)
        names = {**fitted.environment, **(settings or {}), MARK: self.id}
        ordered = Ordered(argv, cwd or fitted.cwd, names, life.read_umask(), fitted.user)
        for attempt in range(_TRIES):
            line = self.reach(given)
            try:
                return start_program(line, ordered, stdio=stdio, tty=tty, detach=detach)
            except control.Gone:  # it ended while we asked
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def reach(self, environment: Mapping[str, str] | None = None) -> Line:
        """A connection to its pid 1; a box that doesn't run is started for as long as the connection lasts."""
        line = control.connect(self.directory)
        if line is not None:
            return line
        given = dict(os.environ if environment is None else environment)
        line, self.notes = life.start_living(self.found, self.state, environment=given, lasting="errands")
        return line

    def changes(self) -> tuple[Change, ...]:
        """What it holds that this machine has not. A box that runs holds still meanwhile."""
        from jubako.boxes.living.contents import read_living_changes  # for those who look

        return read_living_changes(self.found)

    def commit(self, paths: Sequence[str] = ("/",), *, cwd: str | None = None) -> Committed:
        """Publishes its changes at and below `paths` in one transaction, and takes them out of it. It must be stopped.

        All of them or, raising, none: ConflictError if one of them was changed on this machine since the box was made.
        """
        from jubako.boxes.living.contents import commit_living  # SQLite: 10 ms to import, for those who publish

        return commit_living(self.found, self.state, paths, cwd=cwd)

    def snapshot(self, name: str = "") -> str:
        """Copies what it holds at one moment: the id of a kept box, or with a `name` of a living one, not running."""
        from jubako.boxes.living.snapshot import take_snapshot  # for those who take one

        return take_snapshot(self.found, self.state, name)

    def copy_in(self, source: str | BinaryIO, destination: str) -> tuple[str, ...]:
        """Copies a file or a tree of this machine to a path in the box; what was left out, in words.

        A stream for `source` carries a tar archive, which is unpacked into the directory `destination`.
        """
        from jubako.boxes.living.copying import Place, copy_between, open_root

        with self._root() as inside:
            place = Place(inside, _absolute(destination, self.found.record.cwd), f"{self.name}:{destination}")
            if not isinstance(source, str):
                from jubako.boxes.living.copying_tar import read_tar  # tarfile is 10 ms to import

                return read_tar(source, place)
            outside = open_root()
            try:
                return copy_between(Place(outside, _absolute(source, os.getcwd()), source), place, keep_owner=True)
            finally:
                os.close(outside)

    def copy_out(self, source: str, destination: str | BinaryIO) -> tuple[str, ...]:
        """Copies a file or a tree of the box's to a path on this machine; what was left out, in words.

        A stream for `destination` gets a tar archive.
        """
        from jubako.boxes.living.copying import Place, copy_between, open_root

        with self._root() as inside:
            place = Place(inside, _absolute(source, self.found.record.cwd), f"{self.name}:{source}")
            if not isinstance(destination, str):
                from jubako.boxes.living.copying_tar import write_tar  # tarfile is 10 ms to import

                return write_tar(place, destination)
            outside = open_root()
            try:
                target = Place(outside, _absolute(destination, os.getcwd()), destination)
                return copy_between(place, target, keep_owner=os.geteuid() == 0)
            finally:
                os.close(outside)

    @contextmanager
    def _root(self) -> Iterator[int]:
        """A descriptor of the root of the box's view, which is there for the time of a `with` block."""
        with self.reach() as line:
            line.ask("root")
            root = line.take_fd()
            try:
                yield root
            finally:
                os.close(root)


def create_box(
    argv: Sequence[str] = (),
    box: Box = WHOLE_HOST,
    *,
    name: str = "",
    origins: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    cwd: str | None = None,
    state: StateRoot | None = None,
) -> LivingBox:
    """Makes a living box and starts it, with `argv` as its main command; without one it lives until it is stopped.

    `origins` is what it begins with beside this machine: directories (with a "/" in their names), the last one on top,
    and at most one box, by name or id. Raises ConflictError if there is a box of that name.
    """
    root = state or default_state_root()
    begins = _find_origins(origins, root)
    given = dict(os.environ if environment is None else environment)
    where = os.path.abspath(cwd) if cwd else os.getcwd()
    box_id, notes = life.make_living(root, box, name, argv, origins=begins, environment=given, cwd=where)
    return LivingBox(box_id, root, notes)


def find_box(name: str, state: StateRoot | None = None) -> LivingBox:
    """The living box of that name or id; the start of an id is enough. InputError if there is none."""
    root = state or default_state_root()
    return LivingBox(get_living(root, name).id, root)


def living_boxes(state: StateRoot | None = None) -> list[LivingBox]:
    """All living boxes, running or not, the oldest first."""
    root = state or default_state_root()
    return [LivingBox(found.id, root) for found in list_living(root)[0]]


def _absolute(path: str, cwd: str) -> str:
    """`path` from `cwd`, not normalised: what ".." means is for who looks it up to say, and a "/" at the end counts."""
    if not path:
        raise InputError("an empty path was given", hint="Is it a variable of the shell that is not set?")
    return path if path.startswith("/") else f"{cwd.rstrip('/')}/{path}"


def _find_origins(names: Sequence[str], state: StateRoot) -> Origins:
    from jubako.boxes.keeping.kept import find_box_id, list_box_ids, read_box
    from jubako.boxes.living.find import find_living

    directories: list[str] = []
    boxes: list[Origin] = []
    for name in names:
        if "/" in name:
            path = os.path.realpath(os.path.expanduser(name))
            if not os.path.isdir(path):
                raise InputError(f"{name}, which the box should lie on, is no directory")
            directories.insert(0, path)
            continue
        living = find_living(state, name)
        if living is not None:
            if living.is_running:
                raise InputError(
                    f"box {living.name} is running, and what it holds changes",
                    hint=f"'jubako box snapshot {living.name}' makes a box of what it holds now; begin with that.",
                )
            boxes.append(Origin(living.directory, living.record, living.living.tops))
            continue
        if not list_box_ids(state.boxes_path) and os.path.isdir(name):
            raise InputError(f"there is no box {name!r}", hint=f"Is it a directory? Say ./{name} then.")
        box_id = find_box_id(state.boxes_path, name)
        boxes.append(Origin(os.path.join(state.boxes_path, box_id), read_box(state.boxes_path, box_id)))
    if len(boxes) > 1:
        raise InputError("a box can begin with one other box, and any number of directories")
    if boxes and boxes[0].record.outputs:
        raise InputError(
            f"box {boxes[0].record.id} holds outputs that a failed task had staged, which are no part of its files",
            hint=f"'jubako box enter {boxes[0].record.id}' shows them in their places.",
        )
    return Origins(tuple(directories), boxes[0] if boxes else None)
