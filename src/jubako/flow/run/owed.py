"""after_publish(): the calls a run owes once a task's outputs are in place, its own and those of runs that were killed.

A call is made at least once: it is written down in the commit that publishes the task, and struck out when it has
returned. One that raises stays owed, the run says so, and the next run of the pipeline calls it again. Calls run beside
the tasks, in processes of their own where tasks do; dependents do not wait for them.

Values that are not public are never written down. A later run calls the task that it was asked for itself, if it was;
else it makes it with the values that settings and defaults have.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jubako.errors import JubakoError
from jubako.flow.executors.executor import Ended, Executor, Order
from jubako.flow.ledger.ledger import LedgerRun, Owed
from jubako.flow.result import TaskError

__all__ = ["OwedCalls", "dump_owed"]


class OwedCalls:
    """Makes owed calls, at most `limit` at a time. Their attempt ids begin with "after-".

    `get_executor` is asked when there is a call to make.
    """

    def __init__(self, run: LedgerRun, get_executor: Callable[[], Executor], limit: int) -> None:
        self.errors: list[TaskError] = []
        self._run = run
        self._get_executor = get_executor
        self._limit = limit
        self._known: set[int] = set()
        self._waiting: deque[tuple[Owed, Any]] = deque()
        self._running: dict[str, tuple[Owed, Any]] = {}

    @property
    def is_busy(self) -> bool:
        return bool(self._running or self._waiting)

    @property
    def running(self) -> Iterable[str]:
        """Ids of the calls under way."""
        return tuple(self._running)

    def look(self, tasks: Iterable[Any] = ()) -> None:
        """Takes up what has become due, and starts what can be started.

        What is owed for one of `tasks` is called on it; other tasks are made again, without what they conceal.
        """
        new = [owed for owed in self._run.list_owed() if owed.number not in self._known]
        here = {task.task_id: task for task in tasks if task is not None} if new else {}
        for owed in new:
            self._known.add(owed.number)
            self._take(owed, here.get(owed.task_id))
        self._start()

    def stop(self) -> None:
        """Starts no more calls; what is not made stays owed."""
        self._waiting.clear()

    def has(self, attempt_id: str) -> bool:
        """True for the id of a call under way."""
        return attempt_id in self._running

    def find_tasks(self, attempt_id: str) -> Sequence[Any]:
        """The task of a call under way; none if there is no such call."""
        return self._running[attempt_id][1:] if attempt_id in self._running else ()

    def end(self, event: Ended) -> None:
        """Notes how a call has ended."""
        owed, _ = self._running.pop(event.attempt_id)
        if event.outcome == "ok":
            self._run.settle_owed(owed.number)
        else:
            self._run.settle_owed(owed.number, event.error)
            self._complain(owed, event.error, event.traceback)
        self._start()

    def _take(self, owed: Owed, task: Any) -> None:
        if task is not None:
            self._waiting.append((owed, task))
            return
        from jubako.flow.tasks.task_reference import TaskReference  # as below

        try:
            reference: TaskReference = pickle.loads(owed.payload)
            self._waiting.append((owed, reference.resolve()))
        except (JubakoError, pickle.UnpicklingError, AttributeError, ImportError, TypeError, ValueError) as error:
            self._complain(owed, f"the task cannot be made again: {error}", "")

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._limit:
            owed, task = self._waiting.popleft()
            attempt_id = f"after-{owed.number}"
            self._running[attempt_id] = (owed, task)
            self._get_executor().start(Order(attempt_id, task, action="after_publish"))

    def _complain(self, owed: Owed, error: str, text: str) -> None:
        sentence = f"after_publish() did not succeed: {error}; it is called again by the next run"
        self.errors.append(TaskError(owed.task_id, owed.label, sentence, text))


def dump_owed(task: Any) -> bytes | None:
    """What has to be remembered to call `task.after_publish()` later; None if it has none. Nothing concealed."""
    if not task.has_after_publish():
        return None
    from jubako.flow.tasks.task_reference import refer  # 2 ms that few runs need

    return pickle.dumps(refer(task, concealed=False))
