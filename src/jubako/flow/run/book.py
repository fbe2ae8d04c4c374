"""What a run remembers of itself for its result and the ledger, and passes on to whoever watches it.

Attempts that need no journal (unboxed ones, failures) are collected and written many at a time, together with the
leases they give back: their outputs are the truth, so nothing waits for that commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from jubako.flow.ledger.ledger import AttemptRecord, LedgerRun
from jubako.flow.observer import Note, Observer, RunEvent
from jubako.flow.result import TaskError

if TYPE_CHECKING:
    from jubako.layers.change import Change

__all__ = ["Book"]

_MANY: Final = 256
_OLD_S: Final = 0.5


class Book:
    """The books of one run. `watches` is False when nobody does: then no event need be made."""

    def __init__(self, run: LedgerRun, observer: Observer | None) -> None:
        self.run = run
        self.watches = observer is not None
        self.errors: dict[int, TaskError] = {}  # by task; gone again when a later attempt succeeds
        self.other_errors: list[TaskError] = []  # what went wrong after publishing
        self.ever_failed: set[int] = set()
        self.undeclared: dict[str, Sequence[Change]] = {}
        self.undeclared_published: dict[str, Sequence[Change]] = {}
        self.unmade: dict[str, Sequence[str]] = {}  # by task, what run() should have made and has not
        self.notes: dict[str, None] = {}  # an ordered set
        self._observer = observer
        self._records: list[AttemptRecord] = []
        self._released: list[str] = []
        self._oldest_s = 0.0

    def tell(self, event: RunEvent) -> None:
        """Passes an event on."""
        if self._observer is not None:
            self._observer.see(event)

    def note(self, text: str, *, hint: str = "") -> None:
        """Says something once."""
        if text not in self.notes:
            self.notes[text] = None
            self.tell(Note(text, hint))

    def fail(self, number: int, error: TaskError) -> None:
        """Remembers why a task failed."""
        self.ever_failed.add(number)
        self.errors[number] = error

    def succeed(self, number: int) -> None:
        """Forgets why earlier attempts failed, not that they did."""
        if self.errors:
            self.errors.pop(number, None)

    def complain(self, task: Any, sentence: str, traceback: str = "") -> None:
        """Remembers something that went wrong with a task that is done."""
        self.other_errors.append(TaskError(task.task_id, str(task), sentence, traceback))

    def record(self, attempt: AttemptRecord, now_s: float, *, is_last: bool = True) -> None:
        """Writes the attempt to the ledger, soon; the last one of a task gives its lease back with that."""
        if not self._records:
            self._oldest_s = now_s
        self._records.append(attempt)
        if is_last:
            self._released.append(attempt.task_id)
        if len(self._records) >= _MANY or now_s - self._oldest_s > _OLD_S:
            self.flush()

    def flush(self) -> None:
        """Writes what is collected, now."""
        if self._records:
            records, self._records = self._records, []
            released, self._released = self._released, []
            with self.run.transaction():
                self.run.record(records)
                self.run.leases.release_within(released)
