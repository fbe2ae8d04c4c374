"""An observer that remembers what it saw."""

from __future__ import annotations

from typing import TypeVar

from jubako.flow.observer import RunEvent

__all__ = ["RecordingObserver"]

T = TypeVar("T")


class RecordingObserver:
    """Keeps every event of a run: `observer.of(TaskFailed)` are those of one kind."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []

    def see(self, event: RunEvent) -> None:
        self.events.append(event)

    def of(self, kind: type[T]) -> list[T]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]
