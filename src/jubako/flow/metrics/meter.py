"""Counts what happens in a run, and adds it to a file: every few seconds while it goes on, and when it is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from jubako.errors import JubakoError
from jubako.flow.clock import Clock
from jubako.flow.metrics.file import add_to_file, check_file
from jubako.flow.metrics.samples import Samples
from jubako.flow.observer import Note, RunEvent, TaskFailed, TaskPublished
from jubako.flow.outcome import find_outcome

if TYPE_CHECKING:
    from jubako.flow.interrupts import Interrupts
    from jubako.flow.result import RunResult

__all__ = ["Meter"]

_EVERY_S: Final = 15.0  # as often as Prometheus looks, as it comes
_STATUS: Final = {  # the groups of a result that every task is in one of, as `RunResult.counts` has them
    "already_done": "complete",
    "completed": "done",
    "failed": "failed",
    "scheduling_error": "unscheduled",
    "still_pending_ext": "missing",
    "still_pending_not_ext": "pending",
}


class Meter:
    """Counts a run of `pipeline` into the file `path`. InputError or HostError if that cannot be."""

    def __init__(self, path: str, pipeline: str, clock: Clock) -> None:
        check_file(path)
        self._path = path
        self._pipeline = pipeline
        self._clock = clock
        self._began_s = self._added_s = clock.monotonic_s()
        self._samples = Samples()
        self._problem = ""

    def see(self, event: RunEvent) -> None:
        if isinstance(event, TaskPublished):
            labels = {"pipeline": self._pipeline, "family": event.task.get_task_family()}
            self._samples.count("jubako_task_attempts_total", **labels, outcome="done")
            self._samples.observe("jubako_task_duration_seconds", event.wall_s, **labels)
        elif isinstance(event, TaskFailed):
            self._samples.count(
                "jubako_task_attempts_total",
                pipeline=self._pipeline,
                family=event.task.get_task_family(),
                outcome="retried" if event.again else "failed",
            )
        else:
            return
        if self._clock.monotonic_s() - self._added_s >= _EVERY_S:
            self._add()

    def finish(self, result: RunResult | None, error: BaseException | None, interrupts: Interrupts) -> Sequence[Note]:
        """Adds what the run came to."""
        outcome = find_outcome(result, error)
        if result is not None:
            for group, status in _STATUS.items():
                tasks: Sequence[Any] = getattr(result.groups, group)
                for family, count in Counter(task.get_task_family() for task in tasks).items():
                    labels = {"pipeline": self._pipeline, "family": family, "status": status}
                    self._samples.count("jubako_tasks_total", count, **labels)
        pipeline = self._pipeline
        self._samples.count("jubako_runs_total", pipeline=pipeline, outcome=outcome)
        self._samples.observe(
            "jubako_run_duration_seconds", self._clock.monotonic_s() - self._began_s, pipeline=pipeline
        )
        ended_s = round(self._clock.wall_s(), 3)
        self._samples.set("jubako_run_ended_timestamp_seconds", ended_s, pipeline=pipeline, outcome=outcome)
        self._add()
        if not self._problem:
            return ()
        return [Note(f"metrics are not all in {self._path}: {self._problem}", "what was not added is lost")]

    def _add(self) -> None:
        """Adds what was counted. What cannot be added now is tried again with what comes."""
        self._added_s = self._clock.monotonic_s()
        try:
            add_to_file(self._path, self._samples)
        except JubakoError as error:
            self._problem = error.message
        except OSError as error:
            self._problem = error.strerror or str(error)
        else:
            self._samples, self._problem = Samples(), ""
