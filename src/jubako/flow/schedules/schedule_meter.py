"""Counts what a scheduler does. The endpoint asks for it from a thread of its own, so there is a lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jubako.flow.metrics.samples import Samples
from jubako.flow.schedules.scheduler import Ended, GivenUp, SchedulerEvent, Started

if TYPE_CHECKING:
    from jubako.flow.schedules.schedule import Schedule

__all__ = ["ScheduleMeter"]

_OUTCOMES = ("done", "failed", "missed", "busy", "limit")  # the last three: why a firing was not started


class ScheduleMeter:
    """Counts for the schedules of one pipeline. Every outcome of each is there from the beginning, as 0."""

    def __init__(self, pipeline: str, schedules: Sequence[Schedule], wall_s: Callable[[], float]) -> None:
        self._pipeline = pipeline
        self._schedules = schedules
        self._wall_s = wall_s
        self._lock = threading.Lock()
        self._samples = Samples()
        self._running = dict.fromkeys((schedule.name for schedule in schedules), 0)
        for schedule in schedules:
            for outcome in _OUTCOMES:
                self._count(schedule, outcome, 0)

    def tell(self, event: SchedulerEvent) -> None:
        """Something has happened."""
        with self._lock:
            if isinstance(event, Started):
                self._running[event.schedule.name] += 1
            elif isinstance(event, Ended):
                if not event.problem:  # else it was never started
                    self._running[event.schedule.name] -= 1
                self._count(event.schedule, "failed" if event.code or event.problem else "done")
            elif isinstance(event, GivenUp):
                self._count(event.schedule, event.dropped.why, len(event.dropped.moments))

    def format(self) -> str:
        """How things stand, as text."""
        now = Samples()
        with self._lock:
            now.add(self._samples)
            for name, running in self._running.items():
                now.set("jubako_schedule_running", running, pipeline=self._pipeline, schedule=name)
        for schedule in self._schedules:
            next_s = schedule.rule.find_after(int(self._wall_s()))
            if next_s is not None:
                labels = {"pipeline": self._pipeline, "schedule": schedule.name}
                now.set("jubako_schedule_next_timestamp_seconds", next_s, **labels)
        return now.format()

    def _count(self, schedule: Schedule, outcome: str, amount: int = 1) -> None:
        labels = {"pipeline": self._pipeline, "schedule": schedule.name, "outcome": outcome}
        self._samples.count("jubako_schedule_firings_total", amount, **labels)
