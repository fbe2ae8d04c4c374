"""A run that runs nothing: everything is planned, scheduled and recorded as in a real one, with fakes for what is slow.

    simulation = simulate([Report(date)], FakeExecutor({"Load()": ["failed", "ok"]}), attempts=2)
    assert simulation.executor.labels == ["Load()", "Load()", "Report()"]
    assert simulation.state_of(Report(date)) is State.DONE

Tasks that are done already are asked for as usual and left alone. The ledger is in memory, time stands still but for
retries that are waited for, and nothing is written anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jubako.flow.engine.engine import Engine
from jubako.flow.engine.transitions import State
from jubako.flow.graph.graph import Graph
from jubako.flow.interrupts import Interrupts
from jubako.flow.ledger.task_log import TaskLogs
from jubako.flow.observer import Observer
from jubako.flow.options import RunOptions
from jubako.flow.run.book import Book
from jubako.flow.run.planning import get_backoff, plan_run
from jubako.flow.run.run_loop import RunLoop
from jubako.records import record
from jubako.testing.clock import FakeClock
from jubako.testing.executor import FakeExecutor
from jubako.testing.ledger import begin_fake_run, open_memory_ledger

__all__ = ["Simulation", "simulate"]


@record
class Simulation:
    """What came of it."""

    engine: Engine
    graph: Graph
    executor: FakeExecutor

    def state_of(self, task: Any) -> State:
        """Where `task` stands in the end; KeyError if the run never met it."""
        return self.engine.state(self.graph.number(task))


def simulate(
    tasks: Sequence[Any],
    executor: FakeExecutor | None = None,
    *,
    observer: Observer | None = None,
    **shortcuts: Any,
) -> Simulation:
    """Plans `tasks` and all they need, and lets `executor` say how each ends: well, unless its script says otherwise.

    `shortcuts` are fields of `RunOptions`, as of `run`. Raises what `run` would raise before anything runs.
    """
    options = RunOptions(**shortcuts)
    executor = executor or FakeExecutor()
    clock = FakeClock()
    with open_memory_ledger() as ledger, Interrupts(lambda: False) as interrupts:
        book = Book(begin_fake_run(ledger, clock=clock), observer)
        engine = Engine(slots=options.workers, capacities=options.capacities, backoff=get_backoff(options))
        graph = plan_run(tasks, engine, options, book, clock.wall_s())
        executors: Any = _OneExecutor(_Skipping(executor, engine, clock))
        logs = TaskLogs("", options.log_limit_bytes)  # nothing prints
        loop = RunLoop(
            engine, graph, executors, book, logs, desk=None, interrupts=interrupts, clock=clock, options=options
        )
        loop.work()
    return Simulation(engine, graph, executor)


class _OneExecutor:
    """As much of an executor set as the loop uses."""

    def __init__(self, executor: Any) -> None:
        self.in_process = None
        self.living = [executor]
        self._executor = executor

    def choose(self, task: Any) -> Any:
        return self._executor

    def for_owed(self) -> Any:
        return self._executor


class _Skipping:
    """An executor beside which the clock skips to the next moment where nothing else is left to happen."""

    def __init__(self, executor: FakeExecutor, engine: Engine, clock: FakeClock) -> None:
        self._executor = executor
        self._engine = engine
        self._clock = clock
        self.start = executor.start
        self.cancel = executor.cancel
        self.filenos = executor.filenos

    is_ready = True  # so the loop never waits for time to pass

    @property
    def due_s(self) -> float | None:
        return None

    def poll(self) -> Sequence[Any]:
        if not self._executor.is_ready and self._engine.next_due_s is not None:
            self._clock.advance(max(0.0, self._engine.next_due_s - self._clock.monotonic_s()))
        return self._executor.poll()
