"""What is done when an attempt has ended: thanked, blamed, put off or forgotten.

In a box SUCCESS and on_success() come after publishing, FAILURE and on_failure() after discarding, and both are called
here; unboxed, they were called where the task ran.
"""

from __future__ import annotations

import traceback
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jubako.errors import ConflictError, HostError, JubakoError, WorkError
from jubako.flow.attempts import Attempt
from jubako.flow.clock import Clock
from jubako.flow.executors.executor import Ended
from jubako.flow.executors.performing import describe_error
from jubako.flow.ledger.ledger import AttemptRecord
from jubako.flow.ledger.partitions import find_partition
from jubako.flow.ledger.task_log import TaskLogs
from jubako.flow.observer import TaskFailed, TaskPublished, UndeclaredWrites
from jubako.flow.result import TaskError
from jubako.flow.run.book import Book
from jubako.flow.run.owed import dump_owed
from jubako.flow.tasks.event import Event

if TYPE_CHECKING:
    from jubako.flow.run.desk import Desk

__all__ = ["Endings", "blame"]

_OUTCOMES = {"needs": "yielded", "check": "failed", "host": "failed", "timeout": "timeout", "cancelled": "cancelled"}


class Endings:
    """Ends attempts, one method per way to end. `desk` is None in a run without boxes."""

    def __init__(self, book: Book, desk: Desk | None, logs: TaskLogs, clock: Clock) -> None:
        self._book = book
        self._desk = desk
        self._logs = logs
        self._clock = clock
        self._had_conflict: set[int] = set()

    def succeed(self, attempt: Attempt, wall_s: float) -> None:
        """After publishing what a box has made."""
        task = attempt.task
        self._note_unmade(task, attempt.prepared.unmade if attempt.prepared is not None else ())
        self._clear(attempt, keep=False, is_published=True)
        task.trigger_event(Event.PROCESSING_TIME, task, wall_s)
        try:
            task.on_success()
        except Exception as error:  # noqa: BLE001  (the task's own code, after the fact)
            text = "".join(traceback.format_exception(error))
            self._book.complain(task, f"it is published, but on_success() raised {describe_error(error)}", text)
        task.trigger_event(Event.SUCCESS, task)
        self._finish(attempt, wall_s)

    def succeed_unboxed(self, attempt: Attempt, ended: Ended) -> bool:
        """Without a box there is nothing to publish; True if an after_publish() is owed now."""
        record = self.record(attempt, ended, "published")
        owed = dump_owed(attempt.task)
        if owed is None:
            self._book.record(record, self._clock.monotonic_s())
        else:
            run = self._book.run
            with run.transaction():
                run.record([record])
                run.owe(record, owed, self._clock.wall_s())
                run.leases.release_within([record.task_id])
        self._note_unmade(attempt.task, ended.unmade)
        self._finish(attempt, ended.wall_s)
        return owed is not None

    def fail(self, attempt: Attempt, ended: Ended, *, tried_again: Mapping[int, float], is_recorded: bool) -> None:
        """After discarding. `tried_again`: members that get another try, and in how many seconds; `is_recorded`: the
        ledger knows already.
        """
        task, again = attempt.task, bool(tried_again)
        kept_box = self._clear(attempt, keep=not again)
        is_conflict = isinstance(ended.exception, ConflictError)
        if not is_recorded:
            outcome = "conflict" if is_conflict else _OUTCOMES.get(ended.outcome, "failed")
            self._book.record(self.record(attempt, ended, outcome), self._clock.monotonic_s(), is_last=not again)
        self._record_members(attempt, ended, "failed", tried_again)
        text = ended.traceback
        if not ended.handlers_called:
            text = self._call_failure_handlers(task, ended, is_boxed=attempt.prepared is not None) or text
        log_path = self._logs.find(attempt.id)
        self._logs.close(attempt.id)
        sentence = ended.error if ended.outcome != "check" else f"check() refused it: {ended.error}"
        is_host = ended.outcome == "host" or isinstance(ended.exception, HostError)
        hint = ended.exception.hint if isinstance(ended.exception, JubakoError) else ""
        self.tell_undeclared(attempt, ended)
        for number, member in attempt.members:
            error = TaskError(
                member.task_id, str(member), sentence, text, log_path, kept_box, is_conflict, is_host, hint
            )
            self._book.fail(number, error)
            if self._book.watches:
                wait_s = tried_again.get(number)
                self._book.tell(
                    TaskFailed(member, sentence, wait_s is not None, kept_box, log_path, text, wait_s or 0.0)
                )

    def suspend(self, attempt: Attempt, ended: Ended) -> None:
        """The attempt is discarded; the task runs again when what it asked for is done."""
        self._clear(attempt, keep=False)
        self._logs.close(attempt.id)
        self._book.record(self.record(attempt, ended, "yielded"), self._clock.monotonic_s(), is_last=False)

    def cancel(self, attempt: Attempt, ended: Ended) -> None:
        """The attempt is discarded; it neither failed nor succeeded."""
        self._clear(attempt, keep=False)
        self._logs.close(attempt.id)
        self._book.record(self.record(attempt, ended, "cancelled"), self._clock.monotonic_s())

    def deserves_another(self, attempt: Attempt, ended: Ended) -> bool:
        """A task's first conflict is no fault of its own. One over its output isn't settled by replacing that."""
        error = ended.exception
        if not isinstance(error, ConflictError) or not error.is_repeatable or attempt.number in self._had_conflict:
            return False
        self._had_conflict.add(attempt.number)
        return True

    def tell_undeclared(self, attempt: Attempt, ended: Ended) -> None:
        """Remembers and says what a box wrote without declaring it."""
        finished = ended.finished
        if finished is None or not finished.undeclared:
            return
        published = bool(finished.undeclared_in)
        into = self._book.undeclared_published if published else self._book.undeclared
        into[str(attempt.task)] = finished.undeclared
        self._book.tell(UndeclaredWrites(attempt.task, finished.undeclared, published))

    def record(self, attempt: Attempt, ended: Ended, outcome: str) -> AttemptRecord:
        """The attempt for the ledger."""
        task, finished = attempt.task, ended.finished
        return AttemptRecord(
            attempt.id,
            task.task_id,
            str(task),
            outcome,
            ended.error,
            attempt.started_s,
            ended.wall_s,
            ended.cpu_s,
            ended.peak_bytes,
            [change.path for change in finished.undeclared] if finished is not None else (),
            find_partition(task),
            attempt.made_of.get(task.task_id, ""),
        )

    def _note_unmade(self, task: Any, unmade: Sequence[str]) -> None:
        if unmade:
            self._book.unmade[str(task)] = unmade

    def _clear(self, attempt: Attempt, *, keep: bool, is_published: bool = False) -> str:
        if self._desk is None or attempt.prepared is None:
            return ""
        return self._desk.clear(attempt, keep=keep, is_published=is_published)

    def _finish(self, attempt: Attempt, wall_s: float) -> None:
        self._logs.close(attempt.id)
        self._record_members(attempt, Ended(attempt.id, "ok", wall_s=wall_s), "published")
        for number, task in attempt.members:
            self._book.succeed(number)
            if self._book.watches:
                self._book.tell(TaskPublished(task, wall_s))

    def _record_members(self, attempt: Attempt, ended: Ended, outcome: str, tried_again: Collection[int] = ()) -> None:
        """Writes to the ledger what became of those a batch stood for, beside the batch itself."""
        for number, task in attempt.members:
            if task != attempt.task:
                member = Attempt(number, task, attempt.id, attempt.started_s)
                member.made_of = attempt.made_of
                record = self.record(member, ended, outcome)
                self._book.record(record, self._clock.monotonic_s(), is_last=number not in tried_again)

    def _call_failure_handlers(self, task: Any, ended: Ended, *, is_boxed: bool) -> str:
        """What Luigi does where the task ran; returns the traceback if the handlers add to it.

        Without a box a process that was ended or died has an event of its own and no other, as in Luigi.
        """
        if ended.process_died:
            task.trigger_event(Event.PROCESS_FAILURE, task, ended.error)
            return ""
        if ended.outcome == "timeout":
            task.trigger_event(Event.TIMEOUT, task, ended.error)
            if not is_boxed:
                return ""
        error = ended.exception or WorkError(ended.error)
        task.trigger_event(Event.FAILURE, task, error)
        try:
            task.on_failure(error)
        except Exception as second:  # noqa: BLE001  (the task's own code)
            more = "".join(traceback.format_exception(second))
            return f"{ended.traceback}\non_failure() raised too:\n{more}"
        return ""


def blame(attempt_id: str, error: Exception) -> Ended:
    """The end of an attempt for which `error` was raised outside `run()`."""
    text = "".join(traceback.format_exception(error))
    return Ended(attempt_id, "failed", describe_error(error), text, error)
