"""The scheduler as a pure state machine: events in, instructions out. No clock, no file, no process, no task object.

Tasks are numbers, given by `flow.graph.graph` in the order it found them; the number is also the tie-break of equal
priorities. `handle(event, now_s)` changes the state and answers what the runner has to do. Cost: every task and every
edge is looked at a fixed number of times, plus one heap operation where an order is kept: O((V + E) log V).

    unfinished dependencies   a count per task; 0 makes it ready
    ready                     one heap by (-priority, number)
    resources                 `flow.engine.resources`; a blocked task is looked at again only when it is woken
    retries, other runs       one heap by time
    failures                  pushed down the edges once per reason, as bits (`flow.engine.transitions`, BLAME_*)

Events and instructions: `engine_events`. States, and what moves a task from one to another: `transitions`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any

from jubako.errors import BugError
from jubako.flow.engine.backoff import NO_DELAY, Backoff
from jubako.flow.engine.engine_events import (
    Cancelled,
    Elsewhere,
    Entangled,
    Event,
    Failed,
    Found,
    GiveUp,
    Instruction,
    Pause,
    Planned,
    Published,
    Ran,
    Resume,
    Start,
    Stop,
    There,
    Tick,
    Yielded,
)
from jubako.flow.engine.resources import Entry, Needs, Resources
from jubako.flow.engine.transitions import (
    BLAME_DENIED,
    BLAME_FAILED,
    BLAME_MISSING,
    BLAME_SCHEDULING,
    BLAME_SCHEDULING_DIRECT,
    TERMINAL,
    TRANSITIONS,
    Cause,
    State,
)

__all__ = ["Engine"]


class _Node:
    """What is known of one task. Dependencies are only counted; `dependents` is empty again once it is settled."""

    __slots__ = ("attempts", "because", "blame", "dependents", "needs", "priority", "state", "waits")

    def __init__(self) -> None:
        self.state = State.NEW
        self.waits = 0
        self.dependents: list[int] | tuple[()] = ()
        self.priority: float = 0
        self.needs: Needs = ()
        self.attempts = 1
        self.blame = 0
        self.because = -1


class Engine:
    """Schedules numbered tasks onto `slots` places, within `capacities` of named resources.

    Not thread-safe. After a BugError its state is undefined.
    """

    def __init__(self, *, slots: int, capacities: Mapping[str, int] | None = None, backoff: Backoff = NO_DELAY) -> None:
        self._slots = slots
        self._resources = Resources(capacities or {})
        self._backoff = backoff
        self._own_backoffs: dict[int, Backoff] = {}  # of tasks that have one
        self._groups: dict[int, tuple[int, int]] = {}  # of tasks that may run as one: their group, how many may
        self._ready_of: dict[int, list[Entry]] = {}  # a heap per group; entries may be out of date
        self._joined: set[int] = set()
        self._failures: dict[int, int] = {}  # of tasks that have failed and may be tried again
        self._nodes: list[_Node] = []
        self._counts = [0] * len(State)
        self._ready: list[Entry] = []
        self._delayed: list[tuple[float, int]] = []
        self._is_open = False
        self._is_stopped = False
        self._is_paused = False
        self._out: list[Instruction] = []
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            Found: self._on_found,
            Planned: self._on_planned,
            Ran: self._on_ran,
            Published: self._on_published,
            Failed: self._on_failed,
            Elsewhere: self._on_elsewhere,
            There: self._on_there,
            Yielded: self._on_yielded,
            Entangled: self._on_entangled,
            Cancelled: self._on_cancelled,
            Tick: self._on_tick,
            Stop: self._on_stop,
            Pause: self._on_pause,
            Resume: self._on_resume,
        }

    def handle(self, event: Event, now_s: float) -> list[Instruction]:
        """Takes one event; returns what to do now, in order. Raises BugError for an event the state does not allow."""
        return self.handle_all((event,), now_s)

    def handle_all(self, events: Iterable[Event], now_s: float) -> list[Instruction]:
        """As `handle`, for events of one moment: nothing is started between them."""
        for event in events:
            self._handlers[type(event)](event, now_s)
        if self._is_open and not self._is_stopped and not self._is_paused:
            self._hand_out()
        out = self._out
        if out:
            self._out = []
        return out

    def state(self, task: int) -> State:
        """Where `task` stands."""
        return self._nodes[task].state

    def blame(self, task: int) -> int:
        """Why `task` is stuck: BLAME_* bits, 0 when it is not."""
        return self._nodes[task].blame

    def needs(self, task: int) -> Needs:
        """What `task` takes of resources while it runs."""
        return self._nodes[task].needs

    def because(self, task: int) -> int:
        """The task that was the first reason for `task` being stuck, or -1."""
        return self._nodes[task].because

    def count(self, state: State) -> int:
        """How many tasks are in `state`; kept up to date, never counted."""
        return self._counts[state]

    def states(self) -> Iterator[State]:
        """The state of every task, by number."""
        return (node.state for node in self._nodes)

    def upcoming(self, limit: int) -> list[int]:
        """Up to `limit` ready tasks in the order they would start, without starting them."""
        entries: list[Entry] = []
        while self._ready and len(entries) < limit:
            entry = heappop(self._ready)
            if self._nodes[entry[1]].state is State.READY and entry not in entries[-1:]:
                entries.append(entry)
        for entry in entries:
            heappush(self._ready, entry)
        return [number for _, number in entries]

    def dependents(self, task: int) -> Sequence[int]:
        """Who waits for `task`; nobody any more once it is settled."""
        return self._nodes[task].dependents

    def stalled(self) -> list[int]:
        """Tasks that would never start even if all others ended well: those of a cycle, and what depends on them."""
        waits = [node.waits if node.state in (State.WAITING, State.STUCK) else 0 for node in self._nodes]
        free = [number for number, node in enumerate(self._nodes) if node.dependents and not waits[number]]
        while free:
            for number in self._nodes[free.pop()].dependents:
                waits[number] -= 1
                if waits[number] == 0:
                    free.append(number)
        return [number for number, left in enumerate(waits) if left > 0]

    @property
    def next_due_s(self) -> float | None:
        """When the next delayed task becomes ready; None if none waits for time."""
        return self._delayed[0][0] if self._delayed else None

    @property
    def is_over(self) -> bool:
        """True when no event but `Found` could lead to another start."""
        counts = self._counts
        if counts[State.RUNNING] or counts[State.RAN] or counts[State.JOINED]:
            return False
        return self._is_stopped or not (counts[State.READY] or self._delayed)

    # events

    def _on_found(self, event: Found, now_s: float) -> None:
        node = self._node(event.task)
        if node.state is not State.NEW:
            raise BugError(f"task {event.task} was found twice")
        node.priority, node.attempts = event.priority, event.attempts
        if event.backoff is not None:
            self._own_backoffs[event.task] = event.backoff
        if event.standing == "complete":
            self._move(event.task, Cause.THERE)
            self._satisfy(event.task)
        elif event.standing == "missing":
            self._move(event.task, Cause.NOT_THERE)
            self._push_blame(event.task, BLAME_MISSING)
        elif event.standing == "broken":
            self._move(event.task, Cause.BREAK)
            self._push_blame(event.task, BLAME_SCHEDULING_DIRECT | BLAME_SCHEDULING)
        elif event.standing == "disabled" or (event.needs and self._resources.is_too_much(event.needs)):
            self._move(event.task, Cause.DENY)
            self._push_blame(event.task, BLAME_DENIED)
        else:
            node.needs = event.needs
            if event.group >= 0 and event.most > 1:
                self._groups[event.task] = (event.group, event.most)
            self._depend(event.task, event.dependencies)

    def _on_planned(self, event: Planned, now_s: float) -> None:
        self._is_open = True

    def _on_ran(self, event: Ran, now_s: float) -> None:
        self._move(event.task, Cause.RAN)

    def _on_published(self, event: Published, now_s: float) -> None:
        self._move(event.task, Cause.PUBLISHED)
        self._give_back(event.task)
        self._satisfy(event.task)

    def _on_failed(self, event: Failed, now_s: float) -> None:
        node = self._nodes[event.task]
        node.attempts -= 0 if event.again else 1
        if node.attempts > 0 and not self._is_stopped:
            self._move(event.task, Cause.RETRY)
            self._give_back(event.task)
            self._count_failure(event)
            heappush(self._delayed, (now_s + self.wait_s(event.task), event.task))
            self._wake_due(now_s)
        else:
            self._move(event.task, Cause.FAIL)
            self._give_back(event.task)
            self._push_blame(event.task, BLAME_FAILED)

    def _on_elsewhere(self, event: Elsewhere, now_s: float) -> None:
        self._move(event.task, Cause.ELSEWHERE)
        self._give_back(event.task)
        heappush(self._delayed, (event.until_s, event.task))

    def _on_there(self, event: There, now_s: float) -> None:
        self._move(event.task, Cause.THERE)
        self._give_back(event.task)
        self._satisfy(event.task)

    def _on_yielded(self, event: Yielded, now_s: float) -> None:
        self._give_back(event.task)
        self._depend(event.task, event.dependencies, Cause.YIELD)

    def _on_entangled(self, event: Entangled, now_s: float) -> None:
        self._move(event.task, Cause.BREAK)
        self._push_blame(event.task, BLAME_SCHEDULING_DIRECT | BLAME_SCHEDULING)

    def _on_cancelled(self, event: Cancelled, now_s: float) -> None:
        self._move(event.task, Cause.CANCEL)
        self._give_back(event.task)

    def _on_tick(self, event: Tick, now_s: float) -> None:
        self._wake_due(now_s)

    def _on_stop(self, event: Stop, now_s: float) -> None:
        self._is_stopped = True

    def _on_pause(self, event: Pause, now_s: float) -> None:
        self._is_paused = True

    def _on_resume(self, event: Resume, now_s: float) -> None:
        self._is_paused = False

    # moves

    def _move(self, task: int, cause: Cause) -> None:
        node = self._nodes[task]
        target = TRANSITIONS.get((node.state, cause))
        if target is None:
            raise BugError(f"task {task} is {node.state.name}; {cause.name} is not allowed there")
        self._counts[node.state] -= 1
        self._counts[target] += 1
        node.state = target

    def _node(self, task: int) -> _Node:
        """The node of `task`; nodes up to it are made when they are named for the first time."""
        nodes = self._nodes
        while len(nodes) <= task:
            nodes.append(_Node())
            self._counts[State.NEW] += 1
        return nodes[task]

    def _depend(self, task: int, dependencies: Iterable[int], cause: Cause = Cause.DEPEND) -> None:
        """Links `task` below its dependencies and moves it to WAITING, READY or STUCK."""
        node = self._nodes[task]
        stuck_on: list[tuple[int, int]] = []
        for number in dependencies:
            dependency = self._node(number)
            if dependency.state in (State.DONE, State.COMPLETE):
                continue
            node.waits += 1
            if dependency.state in TERMINAL:
                stuck_on.append((number, self._blame_from(number)))
            if isinstance(dependency.dependents, tuple):
                dependency.dependents = [task]
            else:
                dependency.dependents.append(task)
        if node.waits == 0 and cause is Cause.DEPEND:
            self._free(task)
            return
        self._move(task, cause)
        if node.waits == 0:
            self._free(task)
        for number, bits in stuck_on:
            self._blame_one(task, number, bits)

    def _satisfy(self, task: int) -> None:
        """Tells the dependents of a finished task, once."""
        node = self._nodes[task]
        for number in node.dependents:
            dependent = self._nodes[number]
            dependent.waits -= 1
            if dependent.waits == 0:
                self._free(number)
        node.dependents = ()

    def _free(self, task: int) -> None:
        self._move(task, Cause.FREE)
        self._queue((-self._nodes[task].priority, task))

    def wait_s(self, number: int) -> float:
        """How long a task waits, or has waited, before it is tried again; 0 if it never was."""
        failures = self._failures.get(number)
        return 0.0 if failures is None else self._own_backoffs.get(number, self._backoff).wait_s(max(1, failures))

    def _count_failure(self, event: Failed) -> None:
        """A second chance after a conflict counts as no failure."""
        self._failures[event.task] = self._failures.get(event.task, 0) + (0 if event.again else 1)

    def _wake_due(self, now_s: float) -> None:
        while self._delayed and self._delayed[0][0] <= now_s:
            _, task = heappop(self._delayed)
            self._move(task, Cause.DUE)
            self._queue((-self._nodes[task].priority, task))

    # blame

    def _blame_from(self, task: int) -> int:
        """The bits a settled, not finished task hands to its direct dependents."""
        node = self._nodes[task]
        return {
            State.FAILED: BLAME_FAILED,
            State.MISSING: BLAME_MISSING,
            State.UNSCHEDULED: BLAME_SCHEDULING_DIRECT | BLAME_SCHEDULING,
            State.DENIED: BLAME_DENIED,
            State.STUCK: node.blame & ~BLAME_SCHEDULING_DIRECT,
        }.get(node.state, 0)

    def _push_blame(self, task: int, bits: int) -> None:
        for number in self._nodes[task].dependents:
            self._blame_one(number, task, bits)

    def _blame_one(self, task: int, because: int, bits: int) -> None:
        """Adds `bits` to `task` and what is below it; a branch that has them already is not walked again."""
        pending = [(task, bits)]
        while pending:
            number, incoming = pending.pop()
            node = self._nodes[number]
            new = incoming & ~node.blame
            if not new or node.state is State.UNSCHEDULED:  # that one was given up: its own blame comes round a ring
                continue
            node.blame |= new
            if node.state is State.WAITING:
                self._move(number, Cause.UPSTREAM)
                node.because = because
                self._out.append(GiveUp(number, because))
            handed_on = new & ~BLAME_SCHEDULING_DIRECT
            if handed_on:
                pending.extend((below, handed_on) for below in node.dependents)

    # hand-out

    def _hand_out(self) -> None:
        ready, counts = self._ready, self._counts
        while ready and counts[State.RUNNING] < self._slots:
            entry = heappop(ready)
            task = entry[1]
            if self._nodes[task].state is not State.READY:  # it has gone along with another since
                continue
            needs = self._nodes[task].needs
            if needs and not self._take(entry, needs):
                continue
            self._move(task, Cause.START)
            self._out.append(Start(task, self._join(task) if self._groups else ()))

    def _join(self, task: int) -> tuple[int, ...]:
        """Takes along the ready tasks of the group of one that starts, most important first."""
        group, most = self._groups.get(task, (-1, 1))
        ready = self._ready_of.get(group, [])
        others: list[int] = []
        while ready and len(others) < most - 1:
            number = heappop(ready)[1]
            if self._nodes[number].state is State.READY:
                self._move(number, Cause.JOIN)
                others.append(number)
        self._joined.update(others)
        return tuple(others)

    def _queue(self, entry: Entry) -> None:
        """Lets a task that could start wait for its turn."""
        heappush(self._ready, entry)
        of_group = self._groups.get(entry[1]) if self._groups else None
        if of_group is not None:
            heappush(self._ready_of.setdefault(of_group[0], []), entry)

    def _take(self, entry: Entry, needs: Needs) -> bool:
        """Takes what a task needs; or lets it wait, and wakes those it makes way for."""
        woken = self._resources.take(entry, needs)
        if woken is None:
            return True
        self._move(entry[1], Cause.TAKEN)
        self._wake(woken)
        return False

    def _give_back(self, task: int) -> None:
        if task in self._joined:  # it took nothing
            self._joined.remove(task)
            return
        needs = self._nodes[task].needs
        if needs:
            self._wake(self._resources.give_back(needs))

    def _wake(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._move(entry[1], Cause.RELEASED)
            self._queue(entry)
