"""The scheduler with a clock moved by hand and runs that end when they are told to."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pytest

from jubako.flow.interrupts import Interrupts
from jubako.flow.schedules.cron import Cron
from jubako.flow.schedules.firings import Rule
from jubako.flow.schedules.schedule import Schedule
from jubako.flow.schedules.schedule_book import ScheduleBook
from jubako.flow.schedules.schedule_plan import Dropped
from jubako.flow.schedules.scheduler import Begun, Behind, Cancelling, Ended, GivenUp, Scheduler, Started, Stopping
from jubako.testing import FakeClock, FakeLauncher

HOUR = 3600
T = TypeVar("T")
Step = Callable[[], object]


def hourly(name: str = "Hourly", **options: Any) -> Schedule:
    options = {"catch_up": "latest", "overlap": "queue", **options}
    return Schedule(name, Rule(Cron("0 * * * *"), ZoneInfo("UTC")), make=lambda _moment: [], **options)


class World:
    """A book that outlives schedulers. Each goes through steps, one whenever it waits, and is then stopped."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.clock = FakeClock()
        self.launcher = FakeLauncher()
        self.events: list[object] = []
        self.slept_s: list[float] = []
        self.opened = 0

    def serve(self, *schedules: Schedule, steps: Sequence[Step] = (), once: bool = False) -> Scheduler:
        left = list(steps)

        def wait(_fds: Sequence[int], timeout_s: float) -> None:
            self.slept_s.append(timeout_s)
            assert left or not interrupts.count, f"{self.launcher.started} never ended"
            step = left.pop(0) if left else self.signal
            step()

        with Interrupts(lambda: False) as interrupts:
            scheduler = Scheduler(
                schedules,
                self._open_book,
                self.launcher,
                clock=self.clock,
                interrupts=interrupts,
                tell=self.events.append,
                wait=wait,
            )
            scheduler.serve(once=once)
        assert left == []
        return scheduler

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    def go(self, seconds: float) -> Step:
        return lambda: self.clock.advance(seconds)

    def end(self, number: int = -1, code: int = 0) -> Step:
        return lambda: setattr(self.launcher.running[number], "code", code)

    def signal(self) -> None:
        signal.raise_signal(signal.SIGTERM)

    @property
    def moments(self) -> list[int]:
        return [moment for _, moment in self.launcher.started]

    def _open_book(self) -> AbstractContextManager[ScheduleBook]:
        self.opened += 1
        return nullcontext(ScheduleBook(self.connection, "p"))


@pytest.fixture
def world() -> Iterator[World]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield World(connection)
    connection.close()


def test_serve_starts_each_firing_when_it_is_due(world: World) -> None:
    both = [hourly("One"), hourly("Two")]
    world.serve(*both, steps=[world.go(HOUR), world.end(0), world.end(1), world.go(HOUR), world.end(2), world.end(3)])
    assert world.launcher.started == [("One", HOUR), ("Two", HOUR), ("One", 2 * HOUR), ("Two", 2 * HOUR)]
    assert [(event.moment_s, event.code) for event in world.of(Ended)] == [(HOUR, 0)] * 2 + [(2 * HOUR, 0)] * 2


def test_serve_sleeps_until_the_firing_and_half_a_minute_at_most(world: World) -> None:
    world.serve(hourly(), steps=[world.go(HOUR - 10), world.go(10), world.end()])
    assert world.slept_s == [30.0, 10.0, 30.0, 30.0]


def test_serve_opens_the_book_only_to_write(world: World) -> None:
    world.serve(hourly(), steps=[world.go(60)] * 5)
    assert world.opened == 1


def test_serve_again_fires_no_moment_twice(world: World) -> None:
    world.serve(hourly(), steps=[world.go(HOUR), world.end()])
    world.serve(hourly(), steps=[world.go(30)])
    assert world.moments == [HOUR]
    assert [event.is_known for event in world.of(Begun)] == [False, True]


def test_serve_beside_another_scheduler_leaves_what_that_has_claimed(world: World) -> None:
    def claim_elsewhere() -> None:
        world.clock.advance(HOUR)
        assert ScheduleBook(world.connection, "p").settle("Hourly", HOUR)

    world.serve(hourly(), steps=[claim_elsewhere, world.go(HOUR), world.end()])
    assert world.moments == [2 * HOUR]


def test_serve_after_a_long_time_makes_up_for_the_latest_and_says_the_rest(world: World) -> None:
    world.serve(hourly())
    world.clock.advance(3 * HOUR + 600)
    world.serve(hourly(), steps=[world.end()])
    assert world.moments == [3 * HOUR]
    assert [event.dropped for event in world.of(GivenUp)] == [Dropped("missed", (HOUR, 2 * HOUR))]


def test_serve_after_the_machine_slept_makes_up_for_what_was_missed(world: World) -> None:
    everything = hourly(catch_up="all")
    world.serve(everything, steps=[lambda: world.clock.sleep(2 * HOUR + 600), world.end(), world.end()])
    assert world.moments == [HOUR, 2 * HOUR]


def test_serve_when_the_clock_goes_back_says_so_once_and_fires_nothing_again(world: World) -> None:
    world.clock.advance(2 * HOUR)
    back = [lambda: world.clock.sleep(-HOUR), world.go(30), world.go(HOUR - 30)]
    world.serve(hourly(), steps=[world.go(HOUR), world.end(), *back, world.go(HOUR), world.end()])
    assert world.moments == [3 * HOUR, 4 * HOUR]
    assert [(event.now_s, event.until_s) for event in world.of(Behind)] == [(2 * HOUR, 3 * HOUR)]


def test_serve_with_a_queue_keeps_what_waits_for_the_next_start(world: World) -> None:
    steps = [world.go(HOUR), world.go(HOUR), world.go(HOUR), world.signal, world.end()]
    world.serve(hourly(catch_up="all"), steps=steps)
    assert world.moments == [HOUR]
    assert world.of(Stopping) == [Stopping(running=1, waiting=2)]
    world.clock.advance(600)
    world.serve(hourly(catch_up="all"), steps=[world.end(), world.end()])
    assert world.moments == [HOUR, 2 * HOUR, 3 * HOUR]


def test_serve_that_skips_drops_for_good_what_comes_while_a_run_goes_on(world: World) -> None:
    world.serve(hourly(overlap="skip"), steps=[world.go(HOUR), world.go(HOUR), world.end()])
    world.clock.advance(600)
    world.serve(hourly(overlap="skip"))
    assert world.moments == [HOUR]
    assert [event.dropped for event in world.of(GivenUp)] == [Dropped("busy", (2 * HOUR,))]


def test_serve_that_allows_runs_two_side_by_side(world: World) -> None:
    world.serve(hourly(overlap="allow"), steps=[world.go(HOUR), world.go(HOUR), world.end(0), world.end(1)])
    assert [type(event) for event in world.events if isinstance(event, Started | Ended)] == [
        Started,
        Started,
        Ended,
        Ended,
    ]


def test_first_signal_lets_runs_end_and_starts_nothing_more(world: World) -> None:
    scheduler = world.serve(hourly(), steps=[world.go(HOUR), world.signal, world.go(2 * HOUR), world.end()])
    assert (scheduler.is_stopping, scheduler.was_cancelled) == (True, False)
    assert world.moments == [HOUR]
    assert world.launcher.running[0].interrupts == 0


def test_each_further_signal_is_passed_on(world: World) -> None:
    steps = [world.go(HOUR), world.signal, world.signal, world.signal, world.end(code=130)]
    scheduler = world.serve(hourly(), steps=steps)
    assert scheduler.was_cancelled
    assert world.launcher.running[0].interrupts == 2
    assert world.of(Cancelling) == [Cancelling(1), Cancelling(1)]


def test_once_runs_what_is_due_and_what_waits_and_nothing_that_comes_meanwhile(world: World) -> None:
    everything = hourly(catch_up="all")
    world.serve(everything, once=True)
    world.clock.advance(2 * HOUR + 600)
    scheduler = world.serve(everything, steps=[world.go(HOUR), world.end(), world.end()], once=True)
    assert world.moments == [HOUR, 2 * HOUR]
    assert not scheduler.is_failed
    assert not scheduler.is_stopping


def test_once_is_failed_if_a_run_was(world: World) -> None:
    world.serve(hourly(), once=True)
    world.clock.advance(HOUR)
    assert world.serve(hourly(), steps=[world.end(code=1)], once=True).is_failed


def test_firing_that_cannot_be_started_is_said_and_the_next_one_is_tried(world: World) -> None:
    world.launcher.refusal = BlockingIOError(11, "Resource temporarily unavailable")

    def recover() -> None:
        world.launcher.refusal = None
        world.clock.advance(HOUR)

    world.serve(hourly(), steps=[world.go(HOUR), recover, world.end()])
    assert world.moments == [2 * HOUR]
    assert "temporarily unavailable" in world.of(Ended)[0].problem
