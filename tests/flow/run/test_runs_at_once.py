"""Several run loops at once on one ledger, their steps in random order: no task is run twice, shared limits are kept.

Loops are the real ones, each in a thread, of which one goes on at a time: a seed decides whose turn it is whenever a
loop asks its executor what has happened. Tasks fail and are tried again; a run may die with all that it has.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.boxes.transactions.database import open_database
from jubako.flow.engine.engine import Engine
from jubako.flow.engine.transitions import State
from jubako.flow.executors.executor import ExecutorEvent, Order
from jubako.flow.graph.graph import Graph
from jubako.flow.interrupts import Interrupts
from jubako.flow.ledger.ledger import Ledger
from jubako.flow.ledger.task_log import TaskLogs
from jubako.flow.options import RunOptions
from jubako.flow.parameters import IntParameter
from jubako.flow.run.book import Book
from jubako.flow.run.run_loop import RunLoop
from jubako.flow.targets.target import Target
from jubako.flow.tasks.task import Task
from jubako.testing import FakeClock, FakeExecutor, begin_fake_run

CAPACITIES = {"licence": 2, "gpu": 1}
SERIAL = itertools.count()


class World:
    """What the runs share, and what must hold in it."""

    def __init__(self, folder: Path, size: int, runs: int, deaths: int, seed: int) -> None:
        self.chance = random.Random(seed)
        self.ledger_path = str(folder / f"{next(SERIAL)}.sqlite")
        self.clock = FakeClock()
        self.requires = [self.chance.sample(range(n), self.chance.randint(0, min(n, 3))) for n in range(size)]
        self.needs = [{name: 1 for name in CAPACITIES if self.chance.random() < 0.4} for _ in range(size)]
        self.done: set[int] = set()
        self.at_work: dict[int, str] = {}
        self.living = [f"run-{n}" for n in range(runs)]
        self.deaths = min(deaths, runs - 1)
        self.problems: list[BaseException] = []
        self._turn = self.living[0]
        self._changed = threading.Condition()

    def pass_on(self, me: str) -> None:
        """Lets somebody go on, and waits for one's own turn. Raises SystemExit in a run that dies."""
        if self.deaths and me in self.living and self.chance.random() < 0.02:
            self.deaths -= 1
            self.at_work = {n: run for n, run in self.at_work.items() if run != me}
            raise SystemExit
        with self._changed:
            self._turn = self.chance.choice(self.living)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._turn == me, timeout=60)

    def wait_for_first_turn(self, me: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._turn == me, timeout=60)

    def leave(self, me: str) -> None:
        with self._changed:
            self.living.remove(me)
            self._turn = self.chance.choice(self.living) if self.living else ""
            self._changed.notify_all()

    def start(self, number: int, run: str) -> None:
        assert number not in self.at_work, f"{number} is run by {self.at_work.get(number)} and {run}"
        assert number not in self.done
        assert self.done.issuperset(self.requires[number])
        self.at_work[number] = run
        for name, capacity in CAPACITIES.items():
            assert sum(self.needs[each].get(name, 0) for each in self.at_work) <= capacity, name


WORLD: World


class Made(Target):
    def __init__(self, n: int) -> None:
        self.n = n

    def exists(self) -> bool:
        return self.n in WORLD.done


class Job(Task):
    n = IntParameter()

    @property
    def resources(self) -> Any:
        return WORLD.needs[self.n]

    def requires(self) -> Any:
        return [Job(n) for n in WORLD.requires[self.n]]

    def output(self) -> Any:
        return Made(self.n)

    def run(self) -> None:
        raise AssertionError("the executor is a fake")


class TakingTurns(FakeExecutor):
    """Whenever it is asked what has happened, others may go on first; then some of its attempts end."""

    def __init__(self, run: str, book: Book) -> None:
        super().__init__(by_hand=True)
        self._run = run
        self._book = book
        self._open: dict[str, int] = {}

    @property
    def is_ready(self) -> bool:
        """True, so that the loop never waits for time to pass; what it does before it waits is done."""
        self._book.flush()
        return True

    def start(self, order: Order) -> None:
        WORLD.start(order.task.n, self._run)
        self._open[order.attempt_id] = order.task.n
        super().start(order)

    def poll(self) -> Sequence[ExecutorEvent]:
        WORLD.pass_on(self._run)
        WORLD.clock.advance(0.2)
        for attempt_id, number in list(self._open.items()):
            if WORLD.chance.random() < 0.3:
                del self._open[attempt_id], WORLD.at_work[number]
                fails = WORLD.chance.random() < 0.2
                WORLD.done.update([] if fails else [number])
                self.end(attempt_id, "failed" if fails else "ok")
        return super().poll()


class OneExecutor:
    """As much of an executor set as a loop uses."""

    in_process = None

    def __init__(self, executor: Any) -> None:
        self.living = [executor]

    def choose(self, task: Any) -> Any:
        return self.living[0]

    def for_owed(self) -> Any:
        raise AssertionError("nothing is owed")


def work(run: str, workers: int, folder: Path, states: dict[str, list[State]]) -> None:
    """One run, from beginning to end."""
    WORLD.wait_for_first_turn(run)
    try:
        with closing(open_database(WORLD.ledger_path, durability="relaxed")) as connection:
            begun = begin_fake_run(
                Ledger(connection), run, clock=WORLD.clock, is_locked=lambda other: other in WORLD.living
            )
            options = RunOptions(workers=workers, attempts=1000, shared_resources=CAPACITIES)
            engine = Engine(slots=workers, capacities=options.capacities)
            graph = Graph(lambda targets: [target.exists() for target in targets], attempts=options.attempts)
            for found in graph.explore([Job(n) for n in reversed(range(len(WORLD.requires)))]):
                engine.handle(found, 0.0)
            book = Book(begun, None)
            executors: Any = OneExecutor(TakingTurns(run, book))
            with Interrupts(lambda: False) as interrupts:
                loop = RunLoop(
                    engine, graph, executors, book, TaskLogs(str(folder), 100),
                    desk=None, interrupts=interrupts, clock=WORLD.clock, options=options,
                )  # fmt: skip
                loop.work()
            begun.end("SUCCESS", {}, WORLD.clock.wall_s())
            states[run] = list(engine.states())
    except SystemExit:
        pass  # killed: it ends nothing, and gives nothing back
    except BaseException as error:  # noqa: BLE001  (a thread cannot raise it where it would be seen)
        WORLD.problems.append(error)
    finally:
        WORLD.leave(run)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("runs")


@settings(max_examples=settings.default.max_examples // 4 if settings.default is not None else 25)
@given(st.integers(1, 25), st.integers(1, 3), st.integers(0, 2), st.integers(1, 3), st.integers(0, 1 << 32))
def test_runs_at_once_make_each_task_once_and_share_resources(
    folder: Path, size: int, runs: int, deaths: int, workers: int, seed: int
) -> None:
    global WORLD  # noqa: PLW0603  (tasks have no other way to it)
    WORLD = World(folder, size, runs, deaths, seed)
    states: dict[str, list[State]] = {}
    names = list(WORLD.living)
    threads = [threading.Thread(target=work, args=(run, workers, folder, states)) for run in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if WORLD.problems:
        raise WORLD.problems[0]
    assert WORLD.done == set(range(size))
    assert len(states) >= runs - deaths
    for found in states.values():
        assert set(found) <= {State.DONE, State.COMPLETE}
