"""Watches a run for lineage: an event when it begins and ends, and for each attempt at a task.

A task that only stands for others (it has no run() of its own) makes nothing, and has none. What an attempt asks for
while it runs is not among its inputs: only `requires()` is.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from jubako.flow.clock import Clock
from jubako.flow.lineage.datasets import Dataset, find_datasets
from jubako.flow.lineage.destination import Lineage
from jubako.flow.lineage.events import (
    EventType,
    OpenLineageRun,
    describe_attempt,
    describe_run,
    make_event,
    with_error,
)
from jubako.flow.lineage.sinks import FileSink, PostSink, Sink
from jubako.flow.notices.concealed import Concealed
from jubako.flow.notices.digest import describe_ending
from jubako.flow.observer import Note, RunEvent, RunStarted, TaskFailed, TaskFound, TaskPublished, TaskStarted
from jubako.flow.outcome import Outcome, find_outcome
from jubako.flow.tasks.task import Task

if TYPE_CHECKING:
    from jubako.flow.interrupts import Interrupts
    from jubako.flow.result import RunResult

__all__ = ["Historian"]

_ENDS: Final[Mapping[Outcome, EventType]] = {
    "success": "COMPLETE",
    "failure": "FAIL",
    "missing": "FAIL",
    "interrupted": "ABORT",
}


class Historian:
    """Tells of a run of `pipeline`. InputError or HostError if there is nowhere to tell it."""

    def __init__(self, lineage: Lineage, pipeline: str, clock: Clock, environ: Mapping[str, str]) -> None:
        self._target = lineage.target
        self._namespace = lineage.namespace
        self._pipeline = pipeline
        self._clock = clock
        self._sink: Sink
        if lineage.path:
            self._sink = FileSink(lineage.path, clock)
        else:
            key = "" if lineage.api_key is None else lineage.api_key.read(environ)
            self._sink = PostSink(lineage.url, key, clock, environ)
        self._run: OpenLineageRun | None = None
        self._open: dict[str, OpenLineageRun] = {}  # attempts by task
        self._attempts: Counter[str] = Counter()
        self._concealed = Concealed()
        self._unknown: list[str] = []  # tasks whose inputs or outputs could not be asked for

    def see(self, event: RunEvent) -> None:
        if isinstance(event, TaskFound):
            self._concealed.learn(event.task)
        elif isinstance(event, RunStarted):
            self._begin(event.run_id)
        elif isinstance(event, (TaskStarted, TaskPublished, TaskFailed)) and type(event.task).run is not Task.run:
            self._see_task(event)

    def finish(self, result: RunResult | None, error: BaseException | None, interrupts: Interrupts) -> Sequence[Note]:
        """Tells how the run has ended, and of attempts that have not."""
        run = self._run or self._begin(os.urandom(16).hex())  # it was refused before it had an id
        for attempt in self._open.values():
            self._tell("ABORT", attempt)
        outcome = find_outcome(result, error)
        ended = self._make(_ENDS[outcome], run)
        if outcome in ("failure", "missing"):
            with_error(ended, describe_ending(result, error, self._concealed.clean))
        self._take(ended)
        lost, why = self._sink.finish(interrupts)
        notes = []
        if lost:
            text = f"{lost} event{'s' if lost > 1 else ''} of lineage did not get to {self._target}: {why}"
            notes.append(Note(text, "they are lost; the run is as it is"))
        if self._unknown:
            more = f" and {len(self._unknown) - 1} more" if len(self._unknown) > 1 else ""
            notes.append(
                Note(f"lineage of {self._unknown[0]}{more} lacks its datasets: input() or output() raised an exception")
            )
        return notes

    def _begin(self, run_id: str) -> OpenLineageRun:
        self._run = describe_run(self._namespace, self._pipeline, run_id)
        self._tell("START", self._run)
        return self._run

    def _see_task(self, event: TaskStarted | TaskPublished | TaskFailed) -> None:
        task_id = event.task.task_id
        if isinstance(event, TaskStarted):
            self._concealed.learn(event.task)  # perhaps it was asked for by a running one
            if task_id in self._open:  # what it has asked for is there, and it goes on
                self._tell("RUNNING", self._open[task_id])
            else:
                self._open_attempt(event.task)
            return
        attempt = self._open.pop(task_id, None)
        if attempt is None:  # it failed before it could start
            self._open_attempt(event.task)
            attempt = self._open.pop(task_id)
        if isinstance(event, TaskPublished):
            self._tell("COMPLETE", attempt)
        else:
            self._take(with_error(self._make("FAIL", attempt), self._concealed.clean(event.error)))

    def _open_attempt(self, task: Any) -> None:
        assert self._run is not None  # a run starts before its tasks
        self._attempts[task.task_id] += 1
        inputs, outputs = self._find_datasets(task)
        attempt = describe_attempt(self._run, task, self._attempts[task.task_id], inputs, outputs)
        self._open[task.task_id] = attempt
        self._tell("START", attempt)

    def _find_datasets(self, task: Any) -> tuple[Sequence[Dataset], Sequence[Dataset]]:
        try:
            return find_datasets(task.input()), find_datasets(task.output())
        except Exception:  # noqa: BLE001  (the task's own code; the run meets it too, and says what it is)
            self._unknown.append(str(task))
            return (), ()

    def _tell(self, kind: EventType, run: OpenLineageRun) -> None:
        self._take(self._make(kind, run))

    def _make(self, kind: EventType, run: OpenLineageRun) -> dict[str, Any]:
        return make_event(kind, run, self._clock.wall_s())

    def _take(self, event: dict[str, Any]) -> None:
        self._sink.take(json.dumps(event, separators=(",", ":")).encode() + b"\n")
