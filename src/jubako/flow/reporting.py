"""Reports a run to those who are not there: around `run`, and only where that is asked for.

Whoever reports is an observer of the run that is asked once more when it is over, for notes on what went wrong with its
reports. Nothing of that changes what the run came to: the result, or the error, is passed on as it is.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from jubako.flow.interrupts import Interrupts
from jubako.flow.observer import Note, Observer, RunEvent
from jubako.records import record, replace

if TYPE_CHECKING:
    from jubako.flow.clock import Clock
    from jubako.flow.notices.hooks import Hook
    from jubako.flow.notices.notifier import Notifier
    from jubako.flow.options import RunOptions
    from jubako.flow.result import RunResult

__all__ = ["About", "Reporter", "open_notifier", "report_run"]


@record
class About:
    """What is known of a run before it begins."""

    pipeline: str
    asked: str


class Reporter(Observer, Protocol):
    """An observer that reports elsewhere."""

    def finish(self, result: RunResult | None, error: BaseException | None, interrupts: Interrupts) -> Sequence[Note]:
        """The run is over, with a result or an error. What should be said of the reports.

        Once a signal has come, nothing is waited for any more.
        """


def report_run(
    work: Callable[[Observer | None], RunResult],
    about: About,
    options: RunOptions,
    observer: Observer | None,
    clock: Clock,
) -> RunResult:
    """Does `work`, a run, with all reporters that `options` ask for watching. InputError if one can't."""
    reporters: list[Reporter] = []
    watchers = _Watchers(observer, reporters)
    try:
        for reporter in _make_reporters(about, options, clock):
            reporters.append(reporter)  # so that those that are there hear of it if the next can't be made
        result = work(watchers)
    except BaseException as error:
        watchers.finish(None, error)
        raise
    notes = [note.text for note in watchers.finish(result)]
    return replace(result, notes=(*result.notes, *notes)) if notes else result


class _Watchers:
    """All who watch a run, as one observer."""

    def __init__(self, observer: Observer | None, reporters: Sequence[Reporter]) -> None:
        self._observer = observer
        self._reporters = reporters

    def see(self, event: RunEvent) -> None:
        if self._observer is not None:
            self._observer.see(event)
        for reporter in self._reporters:
            reporter.see(event)

    def finish(self, result: RunResult | None, error: BaseException | None = None) -> list[Note]:
        """Lets every reporter finish, hooks last, for they may take long; passes on what they have to say."""
        notes: list[Note] = []
        with Interrupts(lambda: False) as interrupts:
            for reporter in reversed(self._reporters):
                notes += reporter.finish(result, error, interrupts)
        if self._observer is not None:
            for note in notes:
                self._observer.see(note)
        return notes


def open_notifier(hooks: Sequence[Hook], about: About, clock: Clock) -> Notifier:
    """Who tells the hooks of a run that begins now. InputError if one lacks its secret."""
    from jubako.flow.notices.message import Message
    from jubako.flow.notices.notifier import Notifier

    now_s = clock.wall_s()
    message = Message("test", "success", about.pipeline, about.asked, socket.gethostname(), now_s, now_s)
    return Notifier(hooks, message, clock=clock, environ=os.environ, make_id=lambda: f"msg_{os.urandom(12).hex()}")


def _make_reporters(about: About, options: RunOptions, clock: Clock) -> Iterator[Reporter]:
    if options.notify:
        yield open_notifier(options.notify, about, clock)
    if options.metrics_file:
        from jubako.flow.metrics.meter import Meter

        yield Meter(options.metrics_file, about.pipeline, clock)
    if options.lineage is not None:
        from jubako.flow.lineage.historian import Historian

        yield Historian(options.lineage, about.pipeline, clock, os.environ)
