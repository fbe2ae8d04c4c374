"""Tasks in this very process, one after another: quick, and sharing its memory. For one worker without a box, and for
tasks whose targets live in memory.

What a task prints goes where this process prints. A time limit cannot be kept here; tasks that have one are forked.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from jubako.flow.executors.executor import Ended, ExecutorEvent, Order, Said
from jubako.flow.executors.performing import IsDone, Performed, Suspended, call_after_publish, perform
from jubako.flow.run_rules import OUR_RULES, RunRules

__all__ = ["InProcessExecutor"]


class InProcessExecutor:
    """Runs an order within `poll`.

    `is_running` is True while the code of a task is on the stack: only then may a signal handler raise
    KeyboardInterrupt, after setting it to False, so that it is raised once.
    """

    def __init__(self, is_done: IsDone, rules: RunRules = OUR_RULES) -> None:
        self.is_running = False
        self._is_done = is_done
        self._rules = rules
        self._orders: deque[Order] = deque()
        self._suspended: dict[Any, Suspended] = {}
        self._events: list[ExecutorEvent] = []

    @property
    def is_ready(self) -> bool:
        return bool(self._orders or self._events)

    @property
    def due_s(self) -> float | None:
        return None

    def start(self, order: Order) -> None:
        self._orders.append(order)

    def poll(self) -> Sequence[ExecutorEvent]:
        if self._orders:
            self._perform(self._orders.popleft())
        events, self._events = self._events, []
        return events

    def filenos(self) -> Sequence[int]:
        return ()

    def cancel(self, attempt_id: str, *, kill: bool = False) -> None:
        for order in list(self._orders):
            if order.attempt_id == attempt_id:
                self._orders.remove(order)
                self._events.append(Ended(attempt_id, "cancelled", "it was interrupted before it began"))

    def close(self) -> None:
        self._orders.clear()
        for suspended in self._suspended.values():
            suspended.generator.close()
        self._suspended.clear()

    def _perform(self, order: Order) -> None:
        task, attempt_id = order.task, order.attempt_id
        began_s, cpu_s = time.perf_counter(), time.process_time()
        try:
            self.is_running = True
            if order.action == "after_publish":
                done = call_after_publish(task)
            else:
                done = perform(
                    task,
                    is_done=self._is_done,
                    say=lambda what, value: self._events.append(Said(attempt_id, what, value)),
                    resumed=self._suspended.pop(task, None),
                    rules=self._rules,
                )
        except KeyboardInterrupt:  # raised by the run's signal handler just before the task began or after it ended
            done = Performed("cancelled", "it was interrupted")
        finally:
            self.is_running = False
        if done.suspended is not None:
            self._suspended[task] = done.suspended
        self._events.append(
            Ended(
                attempt_id,
                done.outcome,
                done.error,
                done.traceback,
                done.exception,
                done.suspended.requirements.flat_requirements if done.suspended is not None else (),
                unmade=done.unmade,
                handlers_called=True,
                wall_s=time.perf_counter() - began_s,
                cpu_s=time.process_time() - cpu_s,
            )
        )
