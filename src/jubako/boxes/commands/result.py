"""A box whose command has ended: its changes, and what becomes of them: committed, kept or dropped."""

from __future__ import annotations

import os

from jubako.boxes.keeping.kept import flush_box, remove_box
from jubako.boxes.keeping.kept_record import BoxRecord, forget_record, is_kept_box, prepare_record, publish_record
from jubako.errors import HostError, InputError
from jubako.kernel.files import syncfs
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from types import TracebackType
    from typing import Protocol, Self

    from jubako.boxes.commands.commit import Committed
    from jubako.boxes.resources.usage import Usage
    from jubako.boxes.state import StateRoot
    from jubako.boxes.transactions.journal import Durability
    from jubako.layers.change import Change

    class Hold(Protocol):
        """What keeps a box from being swept."""

        def let_go(self, directory: str, *, is_kept: bool) -> None:
            """Ends the hold, and if the box was not kept, the box."""


__all__ = ["BoxResult", "LockHold", "resolve_path"]


@record(frozen=False, kw_only=True)
class BoxResult:
    """A box whose command has ended: nothing of it runs or is mounted any more.

    Use it with `with`, or call `close`: then what was neither committed nor kept is dropped.
    """

    exit_status: int  # as a shell shows it; 126 or 127 if the command could not be executed
    changes: tuple[Change, ...]  # that are still in the box
    error: str = ""  # why the command could not be executed
    notes: tuple[str, ...] = ()  # what this machine did not allow, and who enforces which limit, in words
    exceeded: tuple[str, ...] = ()  # the limits that the command met, a sentence each
    usage: Usage | None = None  # of a box with limits
    id: str | None = None  # of the kept box
    committed: Committed | None = None  # by `run_in_box(commit=...)`
    state: StateRoot
    record: BoxRecord
    hold: Hold  # keeps the box from being swept, entered or removed
    _is_closed: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def directory(self) -> str:
        """Where the box's files are on this machine."""
        return os.path.join(self.state.boxes_path, self.record.id)

    def keep(self, label: str | None = None) -> str:
        """Keeps the box beyond this process; its id. Idempotent."""
        if self.id is None:
            record = self.record if label is None else replace(self.record, label=label)
            prepare_record(self.directory, record)
            flush_box(self.directory)
            publish_record(self.directory)
            self.id = self.record.id
        return self.id

    def commit(
        self, paths: Sequence[str] = ("/",), *, without: Collection[str] = (), durability: Durability = "full"
    ) -> Committed:
        """Publishes the changes at and below `paths`, all of them or, raising, none; the box then holds the rest.

        Relative paths are resolved against the command's working directory. `without` are paths of changes to be left
        in the box. Raises ConflictError if one of them was changed on this machine since the box was started, HostError
        if one cannot be written.
        """
        # Publishing takes SQLite and 25 ms to import, more than the whole of a box that commits nothing.
        from jubako.boxes.commands.commit import commit_changes, forget_committed

        chosen = [resolve_path(path, self.record.cwd) for path in paths]
        if durability == "full" and isinstance(self.hold, LockHold):
            _write_out(self.hold.lock)
        committed = commit_changes(
            self.state, self.directory, self.record, self.changes, chosen, without=without, durability=durability
        )
        forget_committed(self.directory, self.record, committed.plan)
        self.changes = committed.plan.find_rest(self.changes)
        return committed

    def discard(self) -> None:
        """Drops the box, also if it was kept, and lets go of it."""
        if not self._is_closed:
            self.id = None
            if is_kept_box(self.directory):
                forget_record(self.directory)
        self.close()

    def close(self) -> None:
        """Drops the box unless it was kept, and lets go of it. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self.hold.let_go(self.directory, is_kept=self.id is not None or is_kept_box(self.directory))


@record
class LockHold:
    """A box held by the lock on its directory, which this process has."""

    lock: int

    def let_go(self, directory: str, *, is_kept: bool) -> None:
        """Removes the box if it was not kept, and closes the lock."""
        try:
            if not is_kept:
                remove_box(directory)
        finally:
            os.close(self.lock)


def _write_out(fd: int) -> None:
    """Writes what the command wrote to the disk. By a descriptor that was opened before, or an error on the way there
    could have been told to somebody else already; what is published is not written again."""
    try:
        syncfs(fd)
    except OSError as error:
        raise HostError(
            f"what the command wrote could not be written to the disk: {error.strerror}",
            hint="Nothing was published; look at the kernel's log for the disk's errors.",
        ) from error


def resolve_path(path: str, cwd: str) -> str:
    """The absolute path of the entry `path` names: links on the way are followed, the entry itself is not.

    InputError for an empty one, which would stand for all of the working directory.
    """
    if not path:
        raise InputError("an empty path was given", hint="Is it a variable of the shell that is not set?")
    absolute = os.path.normpath(os.path.join(cwd, os.path.expanduser(path)))
    above, name = os.path.split(absolute)
    return os.path.join(os.path.realpath(above), name)
