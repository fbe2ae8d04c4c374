"""The fakes keep the contracts of what they stand for."""

from __future__ import annotations

import doctest

from jubako.flow.clock import Clock, SystemClock
from jubako.flow.executors.executor import Ended, Executor, Order
from jubako.flow.observer import Note, Observer
from jubako.flow.tasks.task import Task
from jubako.testing import FakeClock, FakeExecutor, RecordingObserver
from jubako.testing import clock as clock_module


class T(Task):
    pass


def test_fake_clock_is_a_clock_that_can_sleep_and_reboot() -> None:
    clock = FakeClock(wall_s=100.0, monotonic_s=10.0)
    as_clock: Clock = clock
    clock.sleep(50)
    assert (as_clock.wall_s(), as_clock.monotonic_s()) == (150.0, 10.0)
    clock.advance(1)
    clock.reboot("boot-2")
    assert (clock.moment().boot_id, clock.moment().monotonic_s, clock.wall_s()) == ("boot-2", 0.0, 151.0)
    assert doctest.testmod(clock_module).failed == 0


def test_system_clock_goes_forward_within_one_boot() -> None:
    clock: Clock = SystemClock()
    first, second = clock.moment(), clock.moment()
    assert (first.boot_id, first.monotonic_s <= second.monotonic_s) == (second.boot_id, True)
    assert first.boot_id


def test_fake_executor_follows_its_script() -> None:
    executor = FakeExecutor({"T()": ["failed"]})
    as_executor: Executor = executor
    for attempt_id in ("1", "2"):
        as_executor.start(Order(attempt_id, T()))
    outcomes = [event.outcome for event in as_executor.poll() if isinstance(event, Ended)]
    assert (outcomes, as_executor.is_ready, executor.labels) == (["failed", "ok"], False, ["T()", "T()"])
    as_executor.cancel("3")
    as_executor.close()
    assert (executor.cancelled, executor.is_closed) == (["3"], True)


def test_recording_observer_sorts_by_kind() -> None:
    observer = RecordingObserver()
    as_observer: Observer = observer
    as_observer.see(Note("a"))
    assert observer.of(Note) == [Note("a")]
