"""Tasks in boxes: workers (`boxes.workers`), each a fresh process with the pipeline loaded, one job at a time.

Workers are started as orders come, up to the number the run has, and replaced when they die. What comes from inside a
box is read here: what the task said, what it needs, the exception it raised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from jubako.boxes.job import Finished, Job, JobEvent, Message
from jubako.boxes.job import Printed as JobPrinted
from jubako.errors import BugError, InputError
from jubako.flow.executors.executor import AttemptOutcome, Ended, ExecutorEvent, Order, Printed, Remarked, Said
from jubako.flow.executors.inside import BoxMessage, load_exception, read_message
from jubako.flow.tasks.task_reference import load_references
from jubako.records import field, record

__all__ = ["BoxedExecutor", "WorkerLike"]


class WorkerLike(Protocol):
    """What is used of `boxes.workers.worker.Worker`, which says what each of these does."""

    @property
    def is_alive(self) -> bool: ...
    def wait_until_ready(self) -> object: ...
    def fileno(self) -> int: ...
    def submit(self, job: Job) -> None: ...
    def cancel(self, job_id: str) -> None: ...
    def receive(self) -> Sequence[JobEvent]: ...
    def take_notes(self) -> Sequence[str]: ...
    def close(self) -> None: ...


@record(frozen=False)
class _Attempt:
    order: Order
    worker: WorkerLike
    needs: bytes | None = None
    exception: BaseException | None = None


@record(frozen=False)
class BoxedExecutor:
    """Gives each order to a worker that is free; `start_worker` makes one more of them."""

    start_worker: Callable[[], WorkerLike]
    workers: int
    _free: deque[WorkerLike] = field(default_factory=deque)
    _attempts: dict[str, _Attempt] = field(default_factory=dict)
    _events: list[ExecutorEvent] = field(default_factory=list)

    def warm_up(self, count: int) -> None:
        """Starts up to `count` workers, which load the pipeline side by side, and waits for the first.

        Raises HostError if a box cannot be made or the pipeline cannot be imported in a fresh process: every task would
        fail for that one reason.
        """
        while len(self._free) + len(self._attempts) < min(count, self.workers):
            self._free.append(self.start_worker())
        if self._free:
            self._free[0].wait_until_ready()

    @property
    def is_ready(self) -> bool:
        return bool(self._events)

    @property
    def due_s(self) -> float | None:
        return None  # workers keep the time limits

    def start(self, order: Order) -> None:
        if order.job is None:
            raise BugError(f"the order for {order.task} has no job")
        worker = self._find_worker()
        self._attempts[order.attempt_id] = _Attempt(order, worker)
        worker.submit(order.job)

    def poll(self) -> Sequence[ExecutorEvent]:
        for attempt in list(self._attempts.values()):
            self._watch(attempt)
        events, self._events = self._events, []
        return events

    def filenos(self) -> Sequence[int]:
        return [attempt.worker.fileno() for attempt in self._attempts.values()]

    def cancel(self, attempt_id: str, *, kill: bool = False) -> None:
        attempt = self._attempts.get(attempt_id)
        if attempt is None:
            return
        if kill:
            attempt.worker.close()  # its box dies with it
            self._end(attempt, Finished(attempt_id, "cancelled", error="it was killed"))
        else:
            attempt.worker.cancel(attempt_id)

    def close(self) -> None:
        for worker in (*self._free, *(attempt.worker for attempt in self._attempts.values())):
            worker.close()
        self._free.clear()
        self._attempts.clear()

    def _find_worker(self) -> WorkerLike:
        """One that is free, or a new one; those that died while they were idle are let go."""
        while self._free:
            worker = self._free.popleft()
            worker.receive()
            if worker.is_alive:
                return worker
            worker.close()
        return self.start_worker()

    def _watch(self, attempt: _Attempt) -> None:
        events = attempt.worker.receive()
        for text in attempt.worker.take_notes():
            self._events.append(Remarked(attempt.order.attempt_id, text))
        for event in events:
            if isinstance(event, JobPrinted):
                self._events.append(Printed(attempt.order.attempt_id, event.data))
            elif isinstance(event, Message):
                self._hear(attempt, read_message(event.data))
            else:
                self._end(attempt, event)

    def _hear(self, attempt: _Attempt, message: BoxMessage) -> None:
        if message.what == "needs":
            attempt.needs = message.value
        elif message.what == "raised":
            attempt.exception = load_exception(message.value)
        else:
            self._events.append(Said(attempt.order.attempt_id, message.what, message.value))

    def _end(self, attempt: _Attempt, finished: Finished) -> None:
        del self._attempts[attempt.order.attempt_id]
        if attempt.worker.is_alive:
            self._free.append(attempt.worker)
        else:
            attempt.worker.close()
        outcome: AttemptOutcome = finished.outcome
        error: str = finished.error
        if outcome == "timeout":
            error = f"it ran longer than {attempt.order.timeout_s:g} s"
        requirements: tuple[object, ...] = ()
        if attempt.needs is not None and outcome == "failed":
            try:
                outcome, requirements = "needs", tuple(load_references(attempt.needs))
            except InputError as problem:  # a class that only exists inside the box
                error = problem.message
        self._events.append(
            Ended(
                attempt.order.attempt_id,
                outcome,
                error,
                finished.traceback,
                attempt.exception,
                requirements,
                finished,
                wall_s=finished.wall_s,
                cpu_s=finished.cpu_s,
                peak_bytes=finished.peak_bytes,
            )
        )
