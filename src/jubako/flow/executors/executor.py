"""What runs tasks, as seen by the run loop: orders in, events out. The loop waits; executors never do.

    Order ──start──> executor ──poll──> (Printed, Said, Remarked)* Ended

An executor is handed at most as many orders as the run has workers. `poll` returns what has happened since the last
time, at once (the in-process executor runs a task in it). Every order ends with exactly one `Ended`, also after a
cancel, a timeout, or the death of a process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from jubako.records import record

if TYPE_CHECKING:
    from jubako.boxes.job import Finished, Job

__all__ = ["AttemptOutcome", "Ended", "Executor", "ExecutorEvent", "Order", "Printed", "Remarked", "Said"]

# As boxes.job.Outcome, and: needs   run() asked for tasks that are not done (`requirements`)
AttemptOutcome = Literal["ok", "failed", "check", "timeout", "cancelled", "host", "needs"]


@record
class Order:
    """One attempt at one task."""

    attempt_id: str
    task: Any
    timeout_s: float | None = None
    job: Job | None = None  # for the boxed executor
    action: Literal["run", "upload", "after_publish"] = "run"
    uploads: Sequence[tuple[Any, str]] = ()  # for "upload": targets, and what is staged for each ("" for nothing)


@record
class Printed:
    """Bytes the attempt wrote to stdout or stderr."""

    attempt_id: str
    data: bytes


@record
class Said:
    """The task called one of its `set_...` functions while running."""

    attempt_id: str
    what: Literal["percentage", "message", "tracking_url"]
    value: Any


@record
class Remarked:
    """Something about how tasks are run that the user should know, once a run."""

    attempt_id: str
    text: str


@record
class Ended:
    """The attempt is over; no process of it lives."""

    attempt_id: str
    outcome: AttemptOutcome
    error: str = ""
    traceback: str = ""
    exception: BaseException | None = None  # where it could be brought over
    requirements: Sequence[Any] = ()
    finished: Finished | None = None  # of a box
    unmade: Sequence[str] = ()  # outputs that are not there although the outcome is ok
    process_died: bool = False  # without a word, outside a box
    handlers_called: bool = False  # on_success, on_failure and their events: Luigi's order, where the task ran
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0


ExecutorEvent = Printed | Said | Remarked | Ended


class Executor(Protocol):
    """Something that runs tasks."""

    def start(self, order: Order) -> None:
        """Begins the attempt, or queues it to begin in `poll`."""

    def poll(self) -> Sequence[ExecutorEvent]:
        """What has happened since the last call. Never waits for something to happen."""

    def filenos(self) -> Sequence[int]:
        """Descriptors of which one becomes readable when `poll` would have something to return."""

    @property
    def is_ready(self) -> bool:
        """True when `poll` has something to do without waiting."""

    @property
    def due_s(self) -> float | None:
        """When (CLOCK_MONOTONIC) `poll` has to be called even if nothing becomes readable: a time limit."""

    def cancel(self, attempt_id: str, *, kill: bool = False) -> None:
        """Asks the attempt to end, or with `kill` makes it; its `Ended` still comes from `poll`."""

    def close(self) -> None:
        """Ends everything that still runs. Idempotent."""
