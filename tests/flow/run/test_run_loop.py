"""The run loop on fakes: an executor that runs nothing, a clock that stands still, a ledger in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from jubako.flow.engine.backoff import Backoff
from jubako.flow.engine.engine import Engine
from jubako.flow.engine.transitions import State
from jubako.flow.executors.executor import ExecutorEvent
from jubako.flow.graph.graph import Graph
from jubako.flow.interrupts import Interrupts
from jubako.flow.ledger.history import History
from jubako.flow.ledger.lease import LEASE_S
from jubako.flow.ledger.ledger import Ledger
from jubako.flow.ledger.task_log import TaskLogs
from jubako.flow.observer import Note, TaskFailed, TaskPublished
from jubako.flow.options import RunOptions
from jubako.flow.parameters import IntParameter, ListParameter
from jubako.flow.run.book import Book
from jubako.flow.run.run_loop import RunLoop
from jubako.flow.run_rules import RunRules
from jubako.flow.targets.target import Target
from jubako.flow.tasks.task import Task
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
        engine = Engine(slots=chosen.workers, backoff=Backoff(chosen.retry_delay_s))
        graph = Graph(
            lambda targets: [target.exists() for target in targets], attempts=chosen.attempts, redo=chosen.redo
        )
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


def test_task_waits_for_what_another_run_has_of_a_shared_resource(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Work, "resources", {"gpu": 1})
    other = world.begin("run-0")
    other.shares.take("X", (("gpu", 1),), {"gpu": 1}, world.clock.moment())
    loop = world.loop(Work(1), script={"Work(n=1)": ["failed", "ok"]}, attempts=2, shared_resources={"gpu": 1})
    given_back_at: list[float] = []

    def give_back() -> None:
        assert world.executor.labels == []
        given_back_at.append(world.clock.monotonic_s())
        other.shares.give_back("X")

    world.executor.on_poll = [lambda: None, lambda: None, give_back]
    loop.work()
    assert len(given_back_at) == 1
    assert world.executor.labels == ["Work(n=1)", "Work(n=1)"]
    assert states(loop) == ["DONE"]
    assert list(loop.book.notes) == ["other runs have gpu in use; waiting for them"]
    assert loop.held_elsewhere == {}
    assert other.shares.take("X", (("gpu", 1),), {"gpu": 1}, world.clock.moment()) is None


class Batched(Task):
    names = ListParameter(batch_method=lambda lists: sum(lists, ()))

    def output(self) -> Any:
        return [Named(name) for name in self.names]

    def run(self) -> None:
        raise AssertionError("the executor is a fake")


def make_all() -> None:
    THERE.update("abc")


def test_batch_goes_without_the_one_another_run_has(world: World) -> None:
    other = world.begin("run-0")
    other.leases.claim([Batched(["b"]).task_id], world.clock.moment())
    loop = world.loop(*(Batched([name]) for name in "abc"))

    def end_elsewhere() -> None:
        make_all()
        other.end("SUCCESS", {}, 0.0)

    world.executor.on_poll = [end_elsewhere]
    loop.work()
    assert world.executor.labels == ['Batched(names=["a", "c"])']
    assert states(loop) == ["DONE", "COMPLETE", "DONE"]
    assert loop.book.run.leases.tokens == {}


def test_batch_whose_first_task_another_run_has_starts_without_it(world: World) -> None:
    other = world.begin("run-0")
    other.leases.claim([Batched(["a"]).task_id], world.clock.moment())
    loop = world.loop(*(Batched([name]) for name in "abc"))

    def end_elsewhere() -> None:
        other.end("SUCCESS", {}, 0.0)

    world.executor.on_poll = [make_all, end_elsewhere]
    loop.work()
    assert world.executor.labels == ['Batched(names=["b", "c"])']
    assert states(loop) == ["COMPLETE", "DONE", "DONE"]


def test_batch_another_run_is_working_on_is_waited_for(world: World) -> None:
    other = world.begin("run-0")
    whole = Batched(["a", "b"])
    other.leases.claim([whole.task_id], world.clock.moment())
    loop = world.loop(Batched(["a"]), Batched(["b"]))

    def end_elsewhere() -> None:
        assert world.executor.labels == []
        make_all()
        other.end("SUCCESS", {}, 0.0)

    world.executor.on_poll = [lambda: None, end_elsewhere]
    loop.work()
    assert states(loop) == ["COMPLETE", "COMPLETE"]


def test_paused_run_keeps_the_leases_of_a_batch_that_runs(world: World) -> None:
    parts = [Batched([name]) for name in "ab"]
    loop = world.loop(*parts)
    world.executor._by_hand = True
    leases: list[set[str]] = []
    world.executor.on_poll = [
        lambda: world.ledger.wish("run-1", "pause"),
        *[lambda: None] * 2,
        lambda: leases.append(set(loop.book.run.leases.tokens)),
        make_all,
        lambda: world.executor.end("1", "ok"),
        lambda: world.ledger.wish("run-1", ""),
    ]
    loop.work()
    assert leases == [{task.task_id for task in (*parts, Batched(["a", "b"]))}]
    assert states(loop) == ["DONE", "DONE"]


def test_batch_whose_outputs_are_only_named_does_not_fail_its_tasks(world: World) -> None:
    loop = world.loop(*(Batched([name]) for name in "ab"), rules=RunRules(unmade_outputs="name"))
    loop.work()
    assert world.executor.labels == ['Batched(names=["a", "b"])']
    assert states(loop) == ["DONE", "DONE"]


def test_batch_that_is_redone_runs_though_its_tasks_are_done_and_another_run_is_there(world: World) -> None:
    world.begin("run-0")
    make_all()
    parts = [Batched([name]) for name in "ab"]
    loop = world.loop(*parts, redo=frozenset(parts))
    loop.work()
    assert world.executor.labels == ['Batched(names=["a", "b"])']
    assert states(loop) == ["DONE", "DONE"]


def test_batch_that_cannot_be_made_fails_each_of_its_tasks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batched.names, "_batch_method", lambda lists: 1 // 0)
    loop = world.loop(Batched(["a"]), Batched(["b"]))
    loop.work()
    assert world.executor.labels == []
    assert states(loop) == ["FAILED", "FAILED"]
    sentences = {error.sentence for error in loop.book.errors.values()}
    assert sentences == {"ZeroDivisionError: integer division or modulo by zero"}
    assert [event.task for event in world.seen.of(TaskFailed)] == [Batched(["a"]), Batched(["b"])]
    assert loop.book.run.leases.tokens == {}
