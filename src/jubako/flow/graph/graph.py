"""From the tasks asked for to everything they need: who depends on whom, what is done already, what cannot be had.

Tasks are numbered as they are found, breadth first, so that of equal priorities the earlier named runs earlier and a
summary runs as soon as its parts are there. `requires()` is called once per task, not at all for tasks that are done,
and never recursively. Nothing is scheduled here: `explore` yields `engine.Found`, which the engine takes as they come.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import Any, Final, Literal

from jubako.errors import InputError
from jubako.flow.engine.backoff import NO_DELAY, Backoff
from jubako.flow.engine.batching import Batching
from jubako.flow.engine.disabling import Verdict
from jubako.flow.engine.engine import Engine
from jubako.flow.engine.engine_events import Found
from jubako.flow.engine.transitions import State
from jubako.flow.graph.standing import Answer, Broken, ExistMany, Standing, describe_broken
from jubako.flow.targets.output_paths import OutputPaths
from jubako.flow.tasks.event import Event
from jubako.flow.tasks.task import Task

__all__ = ["Graph", "describe_cycle", "find_cycle", "is_external", "refuse_cycle"]

_CHUNK: Final = 100_000  # tasks looked at together (`flow.graph.standing` says why so many)
_SHOWN: Final = 5


def is_external(task: Any) -> bool:
    """True for a task that only says what should be there: it has no run."""
    return task.run is None or task.run is NotImplemented


class Graph:
    """Tasks by number, and why some cannot be scheduled. Grows when tasks ask for more while they run."""

    def __init__(
        self,
        exist_many: ExistMany,
        *,
        attempts: int = 1,
        obeys_retry_count: bool = True,
        backoff: Backoff = NO_DELAY,
        judge: Callable[[Any], Verdict] = lambda task: Verdict(),
        shared_outputs: Literal["refuse", "serialise"] = "refuse",
        redo: Set[Any] = frozenset(),
        see: Callable[[Any, str], None] | None = None,
    ) -> None:
        self.tasks: list[Any] = []  # None where a task is done and its object was let go
        self.broken: dict[int, Broken] = {}
        self.ranges: list[Any] = []  # those that were looked through, also where a task that is done requires them
        self.disabled: set[int] = set()
        self.disabled_until_s: dict[int, float] = {}  # those of `disabled` that have failed too often
        self._numbers: dict[Any, int] = {}
        self._queue: list[int] = []
        self._standing = Standing(exist_many, self._see_outputs, self._see_wrapper)
        self._paths: OutputPaths[Any] = OutputPaths()
        self._clashes: list[str] = []
        self._shared: defaultdict[Any, list[str]] = defaultdict(list)
        self._attempts = attempts
        self._obeys_retry_count = obeys_retry_count
        self._backoff = backoff
        self._judge = judge
        self._batching = Batching()
        self._shared_outputs = shared_outputs
        self._redo = redo
        self._see = see

    def number(self, task: Any) -> int:
        """The number of a task that was explored, or named by one that was."""
        return self._numbers[task]

    def explore(self, tasks: Iterable[Any]) -> Iterator[Found]:
        """Everything `tasks` need that is not known yet. InputError, at the end, for outputs that clash."""
        for task in tasks:
            _validate(task)
            self._number(task)
        start = 0
        while start < len(self._queue):
            chunk = self._queue[start : start + _CHUNK]
            start += len(chunk)
            answers = self._standing.look(self.tasks[number] for number in chunk)
            for number, answer in zip(chunk, answers, strict=True):
                yield self._find(number, answer)
        self._queue = []
        self._standing.forget()
        self._refuse_clashes()

    def find_complete(self, tasks: Sequence[Any]) -> list[Any]:
        """Those of `tasks` that are done, asked in bulk; none of them becomes part of the graph."""
        answers = self._standing.look(tasks)
        self._standing.forget()
        return [task for task, answer in zip(tasks, answers, strict=True) if answer is True]

    def has(self, task: Any) -> bool:
        """True if `task` was explored, or named by one that was."""
        return task in self._numbers

    def _number(self, task: Any) -> int:
        number = self._numbers.get(task)
        if number is None:
            number = self._numbers[task] = len(self.tasks)
            self.tasks.append(task)
            self._queue.append(number)
        return number

    def _find(self, number: int, answer: Answer) -> Found:
        task = self.tasks[number]
        if isinstance(answer, Broken):
            task.trigger_event(Event.DEPENDENCY_MISSING, task)
            return self._disable(number) if task.disabled else self._break(number, answer)
        if answer and not self._is_redone(task):
            task.trigger_event(Event.DEPENDENCY_PRESENT, task)
            self._tell(task, "complete")
            return Found(number, "complete")
        if is_external(task):
            task.trigger_event(Event.DEPENDENCY_MISSING, task)
            return self._disable(number) if task.disabled else self._miss(number)
        required = self._standing.requirements(task)
        if isinstance(required, Broken):
            task.trigger_event(Event.BROKEN_TASK, task, required.error)
            return self._disable(number) if task.disabled else self._break(number, required)
        dependencies = []
        for other in required:
            task.trigger_event(Event.DEPENDENCY_DISCOVERED, task, other)
            dependencies.append(self._number(other))
        if task.disabled:  # what it requires is run all the same, as in Luigi
            return self._disable(number)
        try:
            verdict = self._judge(task)
            if verdict.until_s is not None:
                self.disabled_until_s[number] = verdict.until_s
                return self._disable(number)
            own = task.retry_count if self._obeys_retry_count else None
            attempts = self._attempts if own is None else max(1, int(own))
            if verdict.tries_left is not None:
                attempts = min(attempts, verdict.tries_left)
            needs, backoff = self._needs(task), self._find_backoff(task)
            group, most = self._batching.find_group(task, needs)
            found = Found(number, "pending", tuple(dependencies), task.priority, needs, attempts, backoff, group, most)
        except InputError as error:
            return self._break(number, Broken(error.message, "", error))
        except Exception as error:  # noqa: BLE001  (priority and resources may be the task's own code)
            return self._break(number, describe_broken(task, "asking for its priority and resources", error))
        self._tell(task, "pending")
        return found

    def _is_redone(self, task: Any) -> bool:
        """True if `task` is to be run though it is done. What has no run() of its own cannot be."""
        return task in self._redo and type(task).run is not Task.run and not is_external(task)

    def _disable(self, number: int) -> Found:
        self._tell(self.tasks[number], "disabled")
        self.disabled.add(number)
        return Found(number, "disabled")

    def _miss(self, number: int) -> Found:
        self._tell(self.tasks[number], "missing")
        return Found(number, "missing")

    def _break(self, number: int, broken: Broken) -> Found:
        self.broken[number] = broken
        self._tell(self.tasks[number], "broken")
        return Found(number, "broken")

    def _tell(self, task: Any, standing: str) -> None:
        if self._see is not None:
            self._see(task, standing)

    def _find_backoff(self, task: Any) -> Backoff | None:
        """How long the task waits before it is tried again, if it says so itself."""
        delay_s, factor, most_s = task.retry_delay_s, task.retry_backoff, task.retry_delay_max_s
        if delay_s is None and factor is None and most_s is None:
            return None
        own = (delay_s, factor, most_s)
        backoff = Backoff(*(float(of_run if it is None else it) for it, of_run in zip(own, self._backoff, strict=True)))
        fault = backoff.find_fault()
        if fault:
            raise InputError(fault)
        return backoff

    def _needs(self, task: Any) -> tuple[tuple[str, int], ...]:
        resources = task.process_resources()
        needs = tuple((name, int(amount)) for name, amount in resources.items()) if resources else ()
        shared = self._shared.get(task) if self._shared else None
        return needs if shared is None else (*needs, *((f"output:{path}", 1) for path in shared))

    def _see_outputs(self, task: Any, targets: Sequence[Any]) -> None:
        """Notes the paths `task` makes. Tasks without a run of their own, and external ones, make nothing."""
        if type(task).run is Task.run or is_external(task):
            return
        for target in targets:
            path = getattr(target, "absolute_path", None)
            if path is None:  # not a file of this machine
                as_output = getattr(target, "as_output", None)
                if as_output is None:
                    continue
                path = as_output().path
            clash = self._paths.add(path, task)
            if clash is None:
                continue
            if self._shared_outputs == "refuse":
                self._clashes.append(clash.describe())
            else:
                for owner in {clash.owner, clash.other}:
                    self._shared[owner].append(clash.other_path)

    def _see_wrapper(self, task: Any) -> None:
        if hasattr(task, "refuse_untold"):
            self.ranges.append(task)

    def _refuse_clashes(self) -> None:
        clashes, self._clashes = self._clashes, []
        if clashes:
            more = f"; and {len(clashes) - _SHOWN} more like that" if len(clashes) > _SHOWN else ""
            raise InputError(
                "; ".join(clashes[:_SHOWN]) + more,
                hint="give every task outputs of its own; put the parameters that tell tasks apart into the path",
            )


def find_cycle(engine: Engine, *, only_waiting: bool = False) -> list[int]:
    """Numbers of tasks that wait for each other in a ring, in the order in which each requires the next; or [].

    `only_waiting` leaves out rings that are given up already, because something else in them cannot be had.
    """
    stalled = set(engine.stalled())
    if only_waiting:
        stalled = {number for number in stalled if engine.state(number) is State.WAITING}
    if not stalled:
        return []
    requires: defaultdict[int, list[int]] = defaultdict(list)
    for number in sorted(stalled):
        for dependent in engine.dependents(number):
            if dependent in stalled:
                requires[dependent].append(number)
    # Every stalled task waits for another stalled one, so walking on must come back to where it has been.
    path: dict[int, int] = {}
    number = min(stalled)
    while number not in path:
        path[number] = len(path)
        number = requires[number][0]
    return list(path)[path[number] :]


def describe_cycle(cycle: Sequence[int], tasks: Sequence[Any]) -> str:
    """One sentence that names the tasks of a ring."""
    ring = [str(tasks[number]) for number in (*cycle, cycle[0])]
    shown = ring if len(ring) <= 12 else [*ring[:6], f"... {len(ring) - 11} more ...", *ring[-5:]]
    return f"these tasks require each other in a ring: {' -> '.join(shown)}"


def refuse_cycle(engine: Engine, tasks: Sequence[Any]) -> None:
    """InputError naming the tasks of a cycle, if there is one."""
    cycle = find_cycle(engine)
    if cycle:
        raise InputError(describe_cycle(cycle, tasks), hint="nothing was run; one of these requires() has to go")


def _validate(task: Any) -> None:
    if not isinstance(task, Task):
        raise InputError(f"{task!r} is not a task", hint="give instances of Task, as in run([MyTask(date=...)])")
    if not task.initialized():
        raise InputError(
            f"a task of class {type(task).__name__} is not initialized",
            hint="its __init__ has to call super().__init__(*args, **kwargs)",
        )
