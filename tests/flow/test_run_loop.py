"""The run loop on fakes: an executor that runs nothing, a clock that stands still, a ledger in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from jubako.flow.book import Book
from jubako.flow.engine import Engine
from jubako.flow.executors.executor import ExecutorEvent
from jubako.flow.graph import Graph
from jubako.flow.history import History
from jubako.flow.interrupts import Interrupts
from jubako.flow.lease import LEASE_S
from jubako.flow.ledger import Ledger
from jubako.flow.observer import Note, TaskFailed, TaskPublished
from jubako.flow.options import RunOptions
from jubako.flow.parameters import IntParameter
from jubako.flow.run_loop import RunLoop
from jubako.flow.target import Target
from jubako.flow.task import Task
from jubako.flow.task_log import TaskLogs
from jubako.flow.transitions import State
from jubako.testing import FakeClock, FakeExecutor, RecordingObserver, begin_fake_run, open_memory_ledger

THERE: set[str] = set()


class Named(Target):
    def __init__(self, name: str) -> None:
        self.name = name

    def exists(self) -> bool:
        return self.name in THERE


class Work(Task):
    n = IntParameter()
    after = IntParameter(default=0, significant=False)

    def requires(self) -> Any:
        return [Work(self.after)] if self.after else []

    def output(self) -> Any:
        return Named(str(self.n))

    def run(self) -> None:
        raise AssertionError("the executor is a fake")


class PassingTime(FakeExecutor):
    """A second goes by with every look. It is always ready, so the loop never waits for real."""

    def __init__(self, clock: FakeClock, script: dict[str, list[str]] | None = None) -> None:
        super().__init__(script)
        self._clock = clock
        self.on_poll: list[Any] = []

    @property
    def is_ready(self) -> bool:
        return True

    def poll(self) -> Sequence[ExecutorEvent]:
        self._clock.advance(1.0)
        if self.on_poll:
            self.on_poll.pop(0)()
        return super().poll()


class OneExecutor:
    """As much of an executor set as the loop uses."""

    mode = "none"

    def __init__(self, executor: FakeExecutor) -> None:
        self.executor = executor
        self.living = [executor]
        self.in_process = object()

    def choose(self, task: Any) -> FakeExecutor:
        return self.executor

    def for_owed(self) -> FakeExecutor:
        return self.executor


class World:
    def __init__(self, stack: ExitStack, logs: str) -> None:
        self.clock = FakeClock()
        self.ledger: Ledger = stack.enter_context(open_memory_ledger())
        self.locked = {"run-0", "run-1"}
        self.seen = RecordingObserver()
        self._stack = stack
        self._logs = logs

    def history(self) -> History:
        return History(self.ledger.connection)

    def begin(self, run_id: str) -> Any:
        return begin_fake_run(self.ledger, run_id, clock=self.clock, is_locked=lambda other: other in self.locked)

    def loop(self, *tasks: Task, script: dict[str, list[str]] | None = None, **options: Any) -> RunLoop:
        chosen = RunOptions(**options)
        engine = Engine(slots=chosen.workers, retry_delay_s=chosen.retry_delay_s)
        graph = Graph(lambda targets: [target.exists() for target in targets], attempts=chosen.attempts)
        for found in graph.explore(tasks):
            engine.handle(found, 0.0)
        self.executor = PassingTime(self.clock, script)
        executors: Any = OneExecutor(self.executor)
        return RunLoop(
            engine,
            graph,
            executors,
            Book(self.begin("run-1"), self.seen),
            TaskLogs(self._logs, 100),
            desk=None,
            interrupts=self._stack.enter_context(Interrupts(lambda: False)),
            clock=self.clock,
            options=chosen,
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    THERE.clear()
    with ExitStack() as stack:
        yield World(stack, str(tmp_path))


def states(loop: RunLoop) -> list[str]:
    return [state.name for state in loop.engine.states()]


def test_tasks_run_in_order_and_are_recorded(world: World) -> None:
    loop = world.loop(Work(1, after=2), workers=2)
    loop.work()
    assert world.executor.labels == ["Work(n=2)", "Work(n=1)"]
    assert [str(event.task) for event in world.seen.of(TaskPublished)] == world.executor.labels
    (attempt,) = world.history().list_attempts("pipeline.py", Work(1).task_id)
    assert (attempt.run_id, attempt.outcome, attempt.label) == ("run-1", "published", "Work(n=1)")
    assert loop.book.run.leases.tokens == {}


def test_retry_waits_its_delay(world: World) -> None:
    loop = world.loop(Work(1), script={"Work(n=1)": ["failed", "failed", "ok"]}, attempts=3, retry_delay_s=10.0)
    loop.work()
    assert states(loop) == ["DONE"]
    assert world.clock.monotonic_s() > 20
    assert [event.again for event in world.seen.of(TaskFailed)] == [True, True]
    outcomes = [attempt.outcome for attempt in world.history().list_attempts("pipeline.py", Work(1).task_id)]
    assert outcomes == ["published", "failed", "failed"]


def test_task_another_run_has_is_waited_for_and_not_run_when_that_made_it(world: World) -> None:
    other = world.begin("run-0")
    other.leases.claim([Work(1).task_id], world.clock.moment())

    def finish() -> None:
        THERE.add("1")
        other.leases.release([Work(1).task_id])

    loop = world.loop(Work(1), Work(2))
    world.executor.on_poll = [lambda: None] * 3 + [finish]
    loop.work()
    assert world.executor.labels == ["Work(n=2)"]
    assert states(loop) == ["COMPLETE", "DONE"]
    assert loop.held_elsewhere == {}
    assert "another run (run-0)" in next(iter(loop.book.notes))


def test_task_of_a_run_that_died_is_run_here(world: World) -> None:
    world.begin("run-0").leases.claim([Work(1).task_id], world.clock.moment())
    loop = world.loop(Work(1))
    world.executor.on_poll = [lambda: None, lambda: world.locked.discard("run-0")]
    loop.work()
    assert (world.executor.labels, states(loop)) == (["Work(n=1)"], ["DONE"])


def test_task_of_a_run_that_is_stopped_is_run_here_when_its_lease_expires(world: World) -> None:
    world.begin("run-0").leases.claim([Work(1).task_id], world.clock.moment())
    loop = world.loop(Work(1))
    loop.work()
    assert states(loop) == ["DONE"]
    assert world.clock.monotonic_s() > LEASE_S


def test_task_done_by_another_run_since_planning_is_not_run_again(world: World) -> None:
    loop = world.loop(Work(1))
    other = world.begin("run-0")
    other.leases.claim([Work(1).task_id], world.clock.moment())
    THERE.add("1")
    other.leases.release([Work(1).task_id])
    loop.work()
    assert (world.executor.labels, states(loop)) == ([], ["COMPLETE"])


def test_run_beats_while_it_works(world: World) -> None:
    loop = world.loop(Work(1), script={"Work(n=1)": ["failed", "ok"]}, attempts=2, retry_delay_s=3 * LEASE_S)
    late = world.begin("run-0")

    def steal() -> None:
        world.clock.advance(LEASE_S / 5)
        assert late.leases.claim([Work(1).task_id], world.clock.moment()).holders == {Work(1).task_id: "run-1"}

    world.executor.on_poll = [steal] * 12
    loop.work()
    assert states(loop) == ["DONE"]


def test_interrupt_stops_what_waits_and_cancels_what_runs(world: World) -> None:
    import signal

    loop = world.loop(Work(1), Work(2, after=1))
    executor = world.executor
    executor._by_hand = True
    executor.on_poll = [
        lambda: signal.raise_signal(signal.SIGINT),
        lambda: executor.end("1", "cancelled"),
    ]
    loop.work()
    assert loop.was_interrupted
    assert executor.cancelled == ["1"]
    assert states(loop) == ["STOPPED", "WAITING"]
    (attempt,) = world.history().list_attempts("pipeline.py", Work(1).task_id)
    assert attempt.outcome == "cancelled"


def test_task_that_cannot_be_looked_at_fails_alone(world: World) -> None:
    class Shy(Work):
        looked = 0

        def process_resources(self) -> Any:
            return {}

    loop = world.loop(Shy(1), Work(2))
    choose: Any = world.executor

    def refuse(task: Any) -> Any:
        if isinstance(task, Shy):
            raise ZeroDivisionError("output() raised")
        return choose

    executors: Any = loop._executors
    executors.choose = refuse
    loop.work()
    assert states(loop) == ["FAILED", "DONE"]
    assert loop.book.errors[0].sentence == "ZeroDivisionError: output() raised"


def test_failure_of_several_tasks_counts_each(world: World) -> None:
    loop = world.loop(*(Work(n) for n in range(4)), script={"Work(n=1)": ["failed"], "Work(n=3)": ["timeout"]})
    loop.work()
    assert [loop.engine.count(state) for state in (State.DONE, State.FAILED)] == [2, 2]
    assert sorted(loop.book.errors) == [1, 3]
    outcomes = [world.history().list_attempts("pipeline.py", Work(n).task_id)[0].outcome for n in (1, 3)]
    assert outcomes == ["failed", "timeout"]


def test_paused_run_starts_nothing_and_keeps_no_lease_until_it_goes_on(world: World) -> None:
    loop = world.loop(*(Work(n) for n in range(1, 4)))
    world.executor._by_hand = True
    labels: list[list[str]] = []
    leases: list[set[str]] = []

    def look() -> None:
        labels.append(list(world.executor.labels))
        leases.append(set(loop.book.run.leases.tokens))

    def pause() -> None:
        world.ledger.wish("run-1", "pause")
        loop.book.run.leases.claim([Work(3).task_id], world.clock.moment())  # as one that is claimed ahead

    def go_on() -> None:
        look()
        world.ledger.wish("run-1", "")
        world.executor._by_hand = False

    world.executor.on_poll = [
        pause,
        lambda: None,
        look,
        lambda: world.executor.end("1", "ok"),
        *[lambda: None] * 3,
        go_on,
    ]
    loop.work()
    assert labels == [["Work(n=1)"], ["Work(n=1)"]]
    assert leases == [{Work(1).task_id}] * 2  # given back with its record, when that is written
    assert states(loop) == ["DONE", "DONE", "DONE"]
    assert [note.text for note in world.seen.of(Note)] == [
        "paused from another terminal: nothing more is started until it goes on",
        "goes on",
    ]


def test_cancelled_run_ends_as_after_an_interrupt(world: World) -> None:
    loop = world.loop(Work(1), Work(2))
    executor = world.executor
    executor._by_hand = True
    executor.on_poll = [
        lambda: world.ledger.wish("run-1", "cancel"),
        *[lambda: None] * 2,
        lambda: executor.end("1", "cancelled"),
    ]
    loop.work()
    assert loop.was_interrupted
    assert executor.cancelled == ["1"]
    assert states(loop) == ["STOPPED", "READY"]
    assert "cancelled from another terminal" in [note.text for note in world.seen.of(Note)]


def test_paused_run_can_be_interrupted(world: World) -> None:
    import signal

    loop = world.loop(Work(1), Work(2))
    world.ledger.wish("run-1", "pause")
    world.executor.on_poll = [lambda: None] * 2 + [lambda: signal.raise_signal(signal.SIGINT)]
    loop.work()
    assert loop.was_interrupted
    assert states(loop) == ["DONE", "READY"]
