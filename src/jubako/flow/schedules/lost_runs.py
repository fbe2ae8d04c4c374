"""Tells hooks of runs that a scheduler has started and that can tell nobody themselves: killed, or never begun.

A scheduler forks nothing and may have threads, and each message has one: firings do not wait for hooks.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from jubako.errors import WorkError
from jubako.flow.clock import SystemClock
from jubako.flow.interrupts import Interrupts
from jubako.flow.reporting import About, open_notifier
from jubako.flow.schedules.scheduler import Ended, SchedulerEvent

if TYPE_CHECKING:
    from jubako.flow.notices.hooks import Hook
    from jubako.flow.observer import Note

__all__ = ["LostRuns"]


class LostRuns:
    """Tells `hooks`; `say` hears what could not be delivered. InputError if a hook lacks its secret."""

    def __init__(self, hooks: Sequence[Hook], pipeline: str, say: Callable[[Note], None]) -> None:
        self._hooks = hooks
        self._pipeline = pipeline
        self._say = say
        self._threads: list[threading.Thread] = []
        open_notifier(hooks, About(pipeline, ""), SystemClock())  # what is wrong with hooks is found before the night

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for thread in self._threads:  # each is over within the time of its hook
            thread.join()

    def tell(self, event: SchedulerEvent) -> None:
        """Something has happened; of runs that have ended by themselves their own hooks know."""
        if not isinstance(event, Ended) or (event.code >= 0 and not event.problem):
            return
        moment = f"{event.schedule.local(event.moment_s):%Y-%m-%d %H:%M %Z}"
        why = (
            f"it could not be started: {event.problem}"
            if event.problem
            else f"it was killed by {signal.Signals(-event.code).name}"
        )
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=self._send, args=(f"{event.schedule.name} {moment}", why), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _send(self, asked: str, why: str) -> None:
        notifier = open_notifier(self._hooks, About(self._pipeline, asked), SystemClock())
        with Interrupts(lambda: False) as interrupts:  # of a thread: no signal comes here
            for note in notifier.finish(None, WorkError(why), interrupts):
                self._say(note)
