"""What is done when an attempt has ended: collected for publishing, thanked, blamed or forgotten.

In a box SUCCESS and on_success() come after publishing, FAILURE and on_failure() after discarding, and both are called
here; unboxed, they were called where the task ran.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import Any

from jubako.boxes.job import Finished
from jubako.boxes.publish import Move
from jubako.errors import BugError, ConflictError, HostError, WorkError
from jubako.flow.attempts import Attempt, Desk
from jubako.flow.book import Book
from jubako.flow.clock import Clock
from jubako.flow.event import Event
from jubako.flow.executors.executor import Ended
from jubako.flow.executors.performing import describe_error
from jubako.flow.ledger import AttemptRecord
from jubako.flow.observer import TaskFailed, TaskPublished, UndeclaredWrites
from jubako.flow.owed import dump_owed
from jubako.flow.partitions import find_partition
from jubako.flow.publishing import Ready
from jubako.flow.result import TaskError
from jubako.flow.task_log import TaskLogs
from jubako.flow.undeclared import stage_undeclared
from jubako.layers.remove import remove_tree

__all__ = ["Endings"]

_OUTCOMES = {"needs": "yielded", "check": "failed", "host": "failed", "timeout": "timeout", "cancelled": "cancelled"}


@dataclass(slots=True)
class Endings:
    """Ends attempts, one method per way to end."""

    book: Book
    desk: Desk
    logs: TaskLogs
    clock: Clock
    _had_conflict: set[int] = field(default_factory=set)

    def collect(self, attempt: Attempt, ended: Ended, ready: list[Ready]) -> Ended | None:
        """Adds what a box has made to `ready`; or says why it cannot be published."""
        finished = ended.finished
        if finished is None:
            raise BugError(f"attempt {attempt.id} ended in a box that said nothing")
        missing = [*finished.missing, *(str(target) for target in attempt.other_targets if not target.exists())]
        if missing:
            why = f" ({'; '.join(finished.refused)})" if finished.refused else ""
            return Ended(attempt.id, "failed", f"run() ended and did not make {', '.join(missing)}{why}")
        try:
            moves = self._plan_moves(attempt, finished)
        except (ConflictError, HostError) as error:
            return Ended(attempt.id, "failed", error.message, exception=error)
        for refused in finished.refused:
            self.book.note(f"{attempt.task}: {refused}")
        ready.append(Ready(attempt, self._record(attempt, ended, "publishing"), moves, dump_owed(attempt.task)))
        return None

    def succeed(self, ready: Ready) -> None:
        """After publishing."""
        attempt, record = ready.attempt, ready.record
        task = attempt.task
        self.desk.clear(attempt, keep=False)
        self.desk.area.discard(_undeclared_id(attempt))
        task.trigger_event(Event.PROCESSING_TIME, task, record.wall_s)
        try:
            task.on_success()
        except Exception as error:  # noqa: BLE001  (the task's own code, after the fact)
            text = "".join(traceback.format_exception(error))
            self.book.complain(
                task, f"its outputs are published, but on_success() raised {describe_error(error)}", text
            )
        task.trigger_event(Event.SUCCESS, task)
        self._finish(attempt, record.wall_s)

    def succeed_unboxed(self, attempt: Attempt, ended: Ended) -> bool:
        """Without a box there is nothing to publish; True if an after_publish() is owed now."""
        record = self._record(attempt, ended, "published")
        owed = dump_owed(attempt.task)
        if owed is None:
            self.book.record(record, self.clock.moment().monotonic_s)
        else:
            run = self.book.run
            with run.transaction():
                run.record([record])
                run.owe(record, owed, self.clock.wall_s())
                run.leases.release_within([record.task_id])
        self._finish(attempt, ended.wall_s)
        return owed is not None

    def fail(self, attempt: Attempt, ended: Ended, *, again: bool, is_recorded: bool) -> None:
        """After discarding. `again`: there will be another attempt; `is_recorded`: the ledger knows already."""
        task = attempt.task
        self.desk.clear(attempt, keep=not again)
        self.desk.area.discard(_undeclared_id(attempt))
        is_conflict = isinstance(ended.exception, ConflictError)
        if not is_recorded:
            outcome = "conflict" if is_conflict else _OUTCOMES.get(ended.outcome, "failed")
            record = self._record(attempt, ended, outcome)
            self.book.record(record, self.clock.moment().monotonic_s, is_last=not again)
        text = ended.traceback
        if not ended.handlers_called:
            text = self._call_failure_handlers(task, ended) or text
        log_path = self.logs.find(attempt.id)
        self.logs.forget(attempt.id)
        sentence = ended.error if ended.outcome != "check" else f"check() refused it: {ended.error}"
        error = TaskError(task.task_id, str(task), sentence, text, log_path, attempt.kept_box, is_conflict)
        self.book.fail(attempt.number, error)
        self._tell_undeclared(attempt, ended)
        if self.book.watches:
            self.book.tell(TaskFailed(task, sentence, again, attempt.kept_box, log_path))

    def suspend(self, attempt: Attempt, ended: Ended) -> None:
        """The attempt is discarded; the task runs again when what it asked for is done."""
        self.desk.clear(attempt, keep=False)
        self.logs.forget(attempt.id)
        record = self._record(attempt, ended, "yielded")
        self.book.record(record, self.clock.moment().monotonic_s, is_last=False)

    def cancel(self, attempt: Attempt, ended: Ended) -> None:
        """The attempt is discarded; it neither failed nor succeeded."""
        self.desk.clear(attempt, keep=False)
        self.logs.forget(attempt.id)
        self.book.record(self._record(attempt, ended, "cancelled"), self.clock.moment().monotonic_s)

    def refuse(self, ready: Ready, outcome: Exception) -> Ended:
        """An attempt whose work was done well and could not be published."""
        return Ended(ready.attempt.id, "failed", describe_error(outcome), exception=outcome)

    def blame(self, attempt_id: str, error: Exception) -> Ended:
        """An attempt that never began because the task's own code raised."""
        text = "".join(traceback.format_exception(error))
        return Ended(attempt_id, "failed", describe_error(error), text, error)

    def deserves_another(self, attempt: Attempt, ended: Ended) -> bool:
        """A task's first conflict is no fault of its own."""
        if not isinstance(ended.exception, ConflictError) or attempt.number in self._had_conflict:
            return False
        self._had_conflict.add(attempt.number)
        return True

    def _finish(self, attempt: Attempt, wall_s: float) -> None:
        self.logs.forget(attempt.id)
        self.book.succeed(attempt.number)
        if self.book.watches:
            self.book.tell(TaskPublished(attempt.task, wall_s))

    def _plan_moves(self, attempt: Attempt, finished: Finished) -> tuple[Move, ...]:
        moves = [
            Move(staged.staged, staged.path, expected)
            for staged, expected in zip(attempt.staged, attempt.expected, strict=True)
        ]
        self._tell_undeclared(attempt, Ended(attempt.id, "ok", finished=finished))
        if not finished.undeclared_in:
            return tuple(moves)
        extra, left_out = stage_undeclared(
            self.desk.area,
            _undeclared_id(attempt),
            finished.undeclared,
            finished.undeclared_in,
            attempt.started_s,
        )
        remove_tree(finished.undeclared_in)
        for text in left_out:
            self.book.note(f"{attempt.task}: {text}")
        return (*extra, *moves)

    def _tell_undeclared(self, attempt: Attempt, ended: Ended) -> None:
        finished = ended.finished
        if finished is None or not finished.undeclared:
            return
        published = bool(finished.undeclared_in)
        into = self.book.undeclared_published if published else self.book.undeclared
        into[str(attempt.task)] = finished.undeclared
        self.book.tell(UndeclaredWrites(attempt.task, finished.undeclared, published))

    def _record(self, attempt: Attempt, ended: Ended, outcome: str) -> AttemptRecord:
        task = attempt.task
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
            [change.path for change in ended.finished.undeclared] if ended.finished is not None else (),
            find_partition(task),
        )

    def _call_failure_handlers(self, task: Any, ended: Ended) -> str:
        """What Luigi does where the task ran; returns the traceback if the handlers add to it."""
        if ended.outcome == "timeout":
            task.trigger_event(Event.TIMEOUT, task, ended.error)
        error = ended.exception or WorkError(ended.error)
        task.trigger_event(Event.FAILURE, task, error)
        try:
            task.on_failure(error)
        except Exception as second:  # noqa: BLE001  (the task's own code)
            more = "".join(traceback.format_exception(second))
            return f"{ended.traceback}\non_failure() raised too:\n{more}"
        return ""


def _undeclared_id(attempt: Attempt) -> str:
    """Where what was written undeclared is staged."""
    return f"{attempt.id}-undeclared"
