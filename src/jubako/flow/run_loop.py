"""The run loop: obeys the engine, waits, hears executors, publishes. The only place where things happen in time.

    engine ── Start ──> claim a lease ──> prepare ──> executor
       ^                                                 │ Ended
       └── Published, Failed, Yielded ... <── publish <──┘

One pass of the loop takes everything that has happened, starts what can start, then publishes all that is ready in one
batch; boxes run on meanwhile. A slot is free from the end of the work, not of its publishing.
"""

from __future__ import annotations

import itertools
import select
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from jubako.boxes.publish import Publisher
from jubako.errors import HostError, InputError
from jubako.flow.attempts import Attempt, Desk, get_timeout_s
from jubako.flow.book import Book
from jubako.flow.claims import Claims
from jubako.flow.clock import Clock
from jubako.flow.ending import Endings
from jubako.flow.engine import (
    Cancelled,
    Elsewhere,
    Engine,
    Entangled,
    Event,
    Failed,
    Found,
    Instruction,
    Planned,
    Published,
    Ran,
    Start,
    Stop,
    There,
    Tick,
    Yielded,
)
from jubako.flow.executor_set import ExecutorSet
from jubako.flow.executors.executor import Ended, ExecutorEvent, Order, Printed, Remarked
from jubako.flow.graph import Graph, describe_cycle, find_cycle
from jubako.flow.interrupts import Interrupts
from jubako.flow.lease import LEASE_S, Leases
from jubako.flow.observer import TaskGivenUp, TaskPrinted, TaskProgressed, TaskStarted
from jubako.flow.options import RunOptions
from jubako.flow.owed import OwedCalls
from jubako.flow.publishing import Ready, publish_batch
from jubako.flow.standing import Broken
from jubako.flow.task import Task
from jubako.flow.task_log import TaskLogs
from jubako.flow.transitions import State

__all__ = ["RunLoop"]

_ASK_AGAIN_S: Final = 0.5  # how often a task that another run has is asked for
_BEAT_S: Final = LEASE_S / 10
_SAME_AGAIN: Final = 3  # how often run() may ask for nothing but what is done


@dataclass(slots=True)
class RunLoop:
    """One run, from "everything is planned" to "nothing runs any more"."""

    engine: Engine
    graph: Graph
    leases: Leases
    claims: Claims
    desk: Desk
    publisher: Publisher
    executors: ExecutorSet
    owed: OwedCalls
    book: Book
    logs: TaskLogs
    clock: Clock
    options: RunOptions
    interrupts: Interrupts
    held_elsewhere: dict[int, str] = field(default_factory=dict)
    _endings: Endings = field(init=False)
    _attempts: dict[str, Attempt] = field(default_factory=dict)
    _todo: deque[Instruction] = field(default_factory=deque)
    _serial: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _same_again: Counter[int] = field(default_factory=Counter)
    _seen_interrupts: int = 0
    _is_stopped: bool = False
    _beats: bool = True
    _next_beat_s: float = 0.0

    def __post_init__(self) -> None:
        self._endings = Endings(self.book, self.desk, self.logs, self.clock)

    @property
    def was_interrupted(self) -> bool:
        return self._is_stopped

    def work(self) -> None:
        """Runs until nothing is left to do. Whatever it raises, the caller closes executors and the staging area."""
        self.owed.look()
        self._tell(Planned())
        while True:
            self._obey()
            if self.engine.is_over and not self._is_calling():
                if self._is_stopped or not self._untangle():
                    break
                continue
            self._wait()
            self._mind_interrupts()
            self._beat()
            ready: list[Ready] = []
            for executor in self.executors.living():
                for event in executor.poll():
                    self._hear(event, ready)
            if self.engine.next_due_s is not None:
                self._tell(Tick())
            self._obey()
            if ready:
                self._publish(ready)
        self.book.flush()

    # engine

    def _tell(self, event: Event) -> None:
        self._todo.extend(self.engine.handle(event, self.clock.moment().monotonic_s))

    def _obey(self) -> None:
        while self._todo:
            instruction = self._todo.popleft()
            if isinstance(instruction, Start):
                self._start(instruction.task)
            elif self.book.watches:
                tasks = self.graph.tasks
                self.book.tell(TaskGivenUp(tasks[instruction.task], tasks[instruction.because]))

    def _start(self, number: int) -> None:
        """Starts a task, unless another run has it, has done it meanwhile, or it cannot even be prepared."""
        task = self.graph.tasks[number]
        now = self.clock.moment()
        holder = self.claims.claim(task.task_id, now)
        if holder is not None:
            self.held_elsewhere[number] = holder
            self.book.note(f"another run ({holder}) is working on tasks that are needed here; waiting for them")
            self._tell(Elsewhere(number, now.monotonic_s + _ASK_AGAIN_S))
            return
        if self.leases.has_company:
            self.held_elsewhere.pop(number, None)
            if self.graph.find_complete([task]):
                self.leases.release([task.task_id])
                self._tell(There(number))
                return
        attempt_id = str(next(self._serial))
        try:
            executor = self.executors.choose(task)
            attempt, job = Attempt(number, task, attempt_id, self.clock.wall_s()), None
            if executor is self.executors.in_process:
                if type(task).run is not Task.run:
                    self._stop_beating()
            elif self.executors.mode == "host":
                attempt, job = self.desk.prepare(number, task, attempt_id, attempt.started_s)
        except (InputError, HostError, OSError) as error:
            self._fail(Attempt(number, task, attempt_id, self.clock.wall_s()), Ended(attempt_id, "failed", str(error)))
            return
        except Exception as error:  # noqa: BLE001  (output() and input() are the task's own code)
            self._fail(Attempt(number, task, attempt_id, self.clock.wall_s()), self._endings.blame(attempt_id, error))
            return
        self._attempts[attempt_id] = attempt
        if self.book.watches:
            self.book.tell(TaskStarted(task, attempt_id))
        executor.start(Order(attempt_id, task, get_timeout_s(task, self.options), job))

    # what has happened

    def _hear(self, event: ExecutorEvent, ready: list[Ready]) -> None:
        if isinstance(event, Ended):
            if self.owed.has(event.attempt_id):
                self.owed.end(event)
            else:
                self._end(self._attempts.pop(event.attempt_id), event, ready)
            return
        if isinstance(event, Remarked):
            self.book.note(event.text)
            return
        if isinstance(event, Printed):
            self.logs.write(event.attempt_id, event.data)
        attempt = self._attempts.get(event.attempt_id)
        if attempt is None or not self.book.watches:
            return
        if isinstance(event, Printed):
            self.book.tell(TaskPrinted(attempt.task, event.data))
        else:
            self.book.tell(TaskProgressed(attempt.task, **{event.what: event.value}))

    def _end(self, attempt: Attempt, ended: Ended, ready: list[Ready]) -> None:
        if ended.outcome == "needs":
            self._need(attempt, ended)
        elif ended.outcome == "cancelled":
            self._endings.cancel(attempt, ended)
            self._stop()  # also where a task has raised KeyboardInterrupt by itself
            self._tell(Cancelled(attempt.number))
        elif ended.outcome != "ok":
            self._fail(attempt, ended)
        elif attempt.in_box:
            problem = self._endings.collect(attempt, ended, ready)
            if problem is None:
                self._tell(Ran(attempt.number))
            else:
                self._fail(attempt, problem)
        else:
            if self._endings.succeed_unboxed(attempt, ended):
                self.owed.look()
            self._tell(Published(attempt.number))

    def _publish(self, ready: Sequence[Ready]) -> None:
        outcomes = publish_batch(self.publisher, self.book.run, ready, self.clock.wall_s())
        calls = False
        for each, outcome in zip(ready, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self._fail(each.attempt, self._endings.refuse(each, outcome), is_recorded=True)
            else:
                self._endings.succeed(each)
                calls |= each.owed is not None
                self._tell(Published(each.attempt.number))
        if calls:
            self.owed.look()

    def _fail(self, attempt: Attempt, ended: Ended, *, is_recorded: bool = False) -> None:
        number = attempt.number
        again = self._endings.deserves_another(attempt, ended)
        self._tell(Failed(number, again=again))
        self._endings.fail(attempt, ended, again=self.engine.state(number) is not State.FAILED, is_recorded=is_recorded)

    def _need(self, attempt: Attempt, ended: Ended) -> None:
        """Puts what run() asked for into the graph, and the task behind it."""
        number = attempt.number
        try:
            self._explore(ended.requirements)
        except InputError as error:
            self._fail(attempt, Ended(attempt.id, "failed", error.message))
            return
        numbers = tuple(self.graph.number(task) for task in ended.requirements)
        if all(self.engine.state(needed) in (State.DONE, State.COMPLETE) for needed in numbers):
            self._same_again[number] += 1
            if self._same_again[number] >= _SAME_AGAIN:
                names = ", ".join(map(str, ended.requirements[:3]))
                sentence = f"run() asks for {names} again and again, which has run and still says it is not complete"
                self._fail(attempt, Ended(attempt.id, "failed", sentence))
                return
        self._endings.suspend(attempt, ended)
        self._tell(Yielded(number, numbers))

    def _explore(self, tasks: Sequence[Any]) -> None:
        """Tells the engine of what is new. InputError if it cannot be; what is new is then broken, not run."""
        found: list[Found] = []
        try:
            found.extend(self.graph.explore(tasks))
        except InputError as error:
            self.graph.broken.update((event.task, Broken(error.message, "", error)) for event in found)
            found = [Found(event.task, "broken") for event in found]
            raise
        finally:
            for event in found:
                self._tell(event)

    def _untangle(self) -> bool:
        """Gives up one task of a ring that dynamic requirements have made; False if there is none."""
        cycle = find_cycle(self.engine, only_waiting=True)
        if not cycle:
            return False
        sentence = describe_cycle(cycle, self.graph.tasks)
        self.graph.broken[cycle[0]] = Broken(sentence, "", InputError(sentence))
        self._tell(Entangled(cycle[0]))
        return True

    # time and signals

    def _wait(self) -> None:
        """Until something happens, a moment comes, or a signal."""
        executors = self.executors.living()
        if any(executor.is_ready for executor in executors):
            return
        self.book.flush()
        moments = [self._next_beat_s, self.engine.next_due_s, *(executor.due_s for executor in executors)]
        now_s = self.clock.moment().monotonic_s
        timeout_s = min(moment for moment in moments if moment is not None) - now_s
        poll = select.poll()
        poll.register(self.interrupts.fileno(), select.POLLIN)
        for executor in executors:
            for fd in executor.filenos():
                poll.register(fd, select.POLLIN)
        poll.poll(max(0.0, timeout_s) * 1000 + 1)
        self.interrupts.drain()

    def _mind_interrupts(self) -> None:
        if self.interrupts.count > self._seen_interrupts:
            kill = self._seen_interrupts > 0
            self._seen_interrupts = self.interrupts.count
            self._stop()
            running = (*self._attempts, *self.owed.running)
            for executor in self.executors.living():
                for attempt_id in running:
                    executor.cancel(attempt_id, kill=kill)

    def _stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            self.owed.stop()
            self._tell(Stop())

    def _is_calling(self) -> bool:
        return self.owed.is_busy

    def _beat(self) -> None:
        now = self.clock.moment()
        if now.monotonic_s >= self._next_beat_s:
            self._next_beat_s = now.monotonic_s + _BEAT_S
            if self._beats:
                self.book.run.beat(now)

    def _stop_beating(self) -> None:
        """A task in this process may take hours, in which nothing can beat."""
        if self._beats:
            self._beats = False
            self.book.run.stop_beating()
