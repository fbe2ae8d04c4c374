"""The scheduler: starts what is due, one process for each firing, and waits. Says what it does, and prints nothing.

    look (schedule_plan) ──> claim (schedule_book) ──> start ──> wait for the next firing, an end, a signal ──> look ...

It sleeps for half of the time after which a firing counts as missed, at most: a machine that was suspended, or whose
clock was set, is noticed by then. The first signal ends it when what runs is done; each further one is passed on to
what runs, where the first asks to end and the second kills (`interrupts`).
"""

from __future__ import annotations

import math
import select
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Protocol

from jubako.flow.schedules.schedule_plan import GRACE_S, Decision, Dropped, Progress, decide
from jubako.records import record

if TYPE_CHECKING:
    from jubako.flow.clock import Clock
    from jubako.flow.interrupts import Interrupts
    from jubako.flow.schedules.schedule import Schedule
    from jubako.flow.schedules.schedule_book import ScheduleBook

__all__ = [
    "Begun",
    "Behind",
    "Cancelling",
    "Ended",
    "GivenUp",
    "Launcher",
    "Running",
    "Scheduler",
    "SchedulerEvent",
    "Started",
    "Stopping",
    "wait_for",
]

_SLEEP_S: Final = GRACE_S / 2


class Running(Protocol):
    """A firing that was started."""

    def fileno(self) -> int:
        """Readable when it has ended."""

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it goes on."""

    def interrupt(self) -> None:
        """Asks it to end."""


class Launcher(Protocol):
    """Starts firings."""

    def start(self, schedule: Schedule, moment_s: int) -> Running:
        """Starts one. OSError if the machine can't."""


@record
class Begun:
    """The scheduler looks after a schedule from now on; `is_known` if it, or an earlier one, did before."""

    schedule: Schedule
    next_s: int | None
    is_known: bool


@record
class Behind:
    """The clock says less than it once did: nothing is started until it passes `until_s`."""

    schedule: Schedule
    now_s: int
    until_s: int


@record
class Started:
    """A firing was started."""

    schedule: Schedule
    moment_s: int


@record
class Ended:
    """A firing is over. `problem`: why it could not even be started."""

    schedule: Schedule
    moment_s: int
    code: int
    wall_s: float
    problem: str = ""


@record
class GivenUp:
    """Firings that are not started."""

    schedule: Schedule
    dropped: Dropped


@record
class Stopping:
    """Nothing more is started; `running` runs go on, `waiting` firings are left for the next start."""

    running: int
    waiting: int


@record
class Cancelling:
    """Runs were asked to end."""

    running: int


SchedulerEvent = Begun | Behind | Started | Ended | GivenUp | Stopping | Cancelling


@record
class _Run:
    schedule: Schedule
    moment_s: int
    began_s: float
    process: Running


class Scheduler:
    """Looks after schedules. `open_book` opens the book they are kept in, `wait` waits for descriptors."""

    def __init__(
        self,
        schedules: Sequence[Schedule],
        open_book: Callable[[], AbstractContextManager[ScheduleBook]],
        launcher: Launcher,
        *,
        clock: Clock,
        interrupts: Interrupts,
        tell: Callable[[SchedulerEvent], None],
        wait: Callable[[Sequence[int], float], None],
    ) -> None:
        self.is_failed = False  # a firing did not end well
        self.was_cancelled = False
        self.is_stopping = False
        self._schedules = schedules
        self._open_book = open_book
        self._launcher = launcher
        self._clock = clock
        self._interrupts = interrupts
        self._tell = tell
        self._wait = wait
        self._seen_interrupts = 0
        self._runs: list[_Run] = []
        self._progress: dict[str, Progress] = {}
        self._next_s: dict[str, int | None] = {}  # the first firing after what was looked at
        self._behind: set[str] = set()

    def serve(self, *, once: bool = False) -> None:
        """Works until a signal comes; with `once`, until what is due now was run."""
        self._begin()
        until_s = self._now_s() if once else None
        while True:
            self._mind_interrupts()
            self._reap()
            if not self.is_stopping:
                for schedule in self._schedules:
                    self._look(schedule, self._now_s() if until_s is None else until_s)
            is_idle = not self._runs and (self.is_stopping or not self._count_waiting())
            if is_idle and (self.is_stopping or once):
                return
            fds = [self._interrupts.fileno(), *(run.process.fileno() for run in self._runs)]
            self._wait(fds, self._sleep_s(once=once))
            self._interrupts.drain()

    def _begin(self) -> None:
        now_s = self._now_s()
        with self._open_book() as book:
            begun = [book.begin(schedule.name, schedule.rule.text, now_s) for schedule in self._schedules]
        for schedule, (settled_s, is_known) in zip(self._schedules, begun, strict=True):
            self._progress[schedule.name] = Progress(settled_s)
            self._next_s[schedule.name] = schedule.rule.find_after(settled_s)
            self._tell(Begun(schedule, schedule.rule.find_after(max(settled_s, now_s)), is_known))

    def _look(self, schedule: Schedule, now_s: int) -> None:
        """Starts what is due of a schedule."""
        name, progress = schedule.name, self._progress[schedule.name]
        self._mind_clock(schedule, progress, now_s)
        running = sum(run.schedule is schedule for run in self._runs)
        next_s = self._next_s[name]
        is_due = next_s is not None and next_s <= now_s
        if not is_due and (running or not progress.waiting):
            return
        decision = decide(
            schedule.rule,
            progress,
            now_s,
            catch_up=schedule.catch_up,
            overlap=schedule.overlap,
            running=running,
        )
        claimed = self._claim(name, decision)
        self._progress[name] = decision.progress
        if is_due:
            self._next_s[name] = schedule.rule.find_after(decision.progress.seen_s)
        for dropped in decision.dropped:
            self._tell(GivenUp(schedule, dropped))
        for moment_s in claimed:
            self._start(schedule, moment_s)

    def _claim(self, name: str, decision: Decision) -> list[int]:
        """Those firings of a decision that nobody else has started; settles what it gives up."""
        with self._open_book() as book:
            claimed = [moment_s for moment_s in decision.start if book.settle(name, moment_s)]
            book.settle(name, decision.progress.settled_s)
        return claimed

    def _start(self, schedule: Schedule, moment_s: int) -> None:
        try:
            process = self._launcher.start(schedule, moment_s)
        except OSError as error:  # no memory, no more processes: the next firing may find some
            self.is_failed = True
            self._tell(Ended(schedule, moment_s, 1, 0.0, problem=str(error)))
            return
        self._runs.append(_Run(schedule, moment_s, self._clock.monotonic_s(), process))
        self._tell(Started(schedule, moment_s))

    def _reap(self) -> None:
        living = []
        for run in self._runs:
            code = run.process.poll()
            if code is None:
                living.append(run)
            else:
                self.is_failed |= code != 0
                self._tell(Ended(run.schedule, run.moment_s, code, self._clock.monotonic_s() - run.began_s))
        self._runs = living

    def _mind_interrupts(self) -> None:
        while self._seen_interrupts < self._interrupts.count:
            self._seen_interrupts += 1
            if not self.is_stopping:
                self.is_stopping = True
                self._tell(Stopping(len(self._runs), self._count_waiting()))
                continue
            self.was_cancelled = True
            self._tell(Cancelling(len(self._runs)))
            for run in self._runs:
                run.process.interrupt()

    def _mind_clock(self, schedule: Schedule, progress: Progress, now_s: int) -> None:
        """Says once that the clock went back by more than little."""
        if progress.seen_s <= now_s + GRACE_S:
            self._behind.discard(schedule.name)
        elif schedule.name not in self._behind:
            self._behind.add(schedule.name)
            self._tell(Behind(schedule, now_s, progress.seen_s))

    def _sleep_s(self, *, once: bool) -> float:
        """Until when nothing happens by itself."""
        if once or self.is_stopping:
            return _SLEEP_S
        coming = [next_s for next_s in self._next_s.values() if next_s is not None]
        return min(_SLEEP_S, max(0.0, min(coming, default=math.inf) - self._clock.wall_s()))

    def _count_waiting(self) -> int:
        return sum(len(progress.waiting) for progress in self._progress.values())

    def _now_s(self) -> int:
        return math.floor(self._clock.wall_s())


def wait_for(fds: Sequence[int], timeout_s: float) -> None:
    """Waits until one of the descriptors is readable, or so long."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    poll.poll(math.ceil(timeout_s * 1000))  # up: to wake a little before a firing would be to sleep twice
