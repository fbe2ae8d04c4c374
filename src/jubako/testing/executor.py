"""An executor that runs nothing: orders are noted, and end when and how the test says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jubako.flow.executors.executor import Ended, ExecutorEvent, Order

__all__ = ["FakeExecutor"]


class FakeExecutor:
    """Follows a script: how each attempt at a task ends, by the task's text; what is not in it ends "ok".

        executor = FakeExecutor({"Report()": ["failed", "ok"]})      fails once, then succeeds

    With `by_hand=True` attempts go on until `end` is called.
    """

    def __init__(self, script: dict[str, list[str]] | None = None, *, by_hand: bool = False) -> None:
        self.orders: list[Order] = []  # all there ever were
        self.cancelled: list[str] = []
        self.is_closed = False
        self._script = {label: list(outcomes) for label, outcomes in (script or {}).items()}
        self._by_hand = by_hand
        self._events: list[ExecutorEvent] = []

    @property
    def is_ready(self) -> bool:
        return bool(self._events)

    @property
    def due_s(self) -> float | None:
        return None

    @property
    def labels(self) -> list[str]:
        """The tasks that were ordered, as text, in order."""
        return [str(order.task) for order in self.orders]

    def start(self, order: Order) -> None:
        self.orders.append(order)
        if not self._by_hand:
            outcomes = self._script.get(str(order.task)) if self._script else None
            self.end(order.attempt_id, outcomes.pop(0) if outcomes else "ok")

    def end(self, attempt_id: str, outcome: Any = "ok", *, requirements: Sequence[Any] = ()) -> None:
        """Ends an attempt."""
        error = "" if outcome == "ok" else f"it was to end {outcome}"
        self._events.append(Ended(attempt_id, outcome, error, requirements=requirements, handlers_called=True))

    def poll(self) -> Sequence[ExecutorEvent]:
        events, self._events = self._events, []
        return events

    def filenos(self) -> Sequence[int]:
        return ()

    def cancel(self, attempt_id: str, *, kill: bool = False) -> None:
        self.cancelled.append(attempt_id)

    def close(self) -> None:
        self.is_closed = True
