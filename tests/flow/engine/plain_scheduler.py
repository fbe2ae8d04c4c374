"""The scheduler's rules once more, slow and obvious: sets, scans, and a look at every task after every event.

For `test_engine_same_as_plain`. What becomes of a task is decided beforehand (`Job.script`), so that `foresee` can say
how everything must end without scheduling anything; `Plain` follows along, event by event, and says where each task
stands and what may be started.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jubako.flow.engine.backoff import Backoff
from jubako.flow.engine.engine_events import Found
from jubako.flow.engine.transitions import (
    BLAME_DENIED,
    BLAME_FAILED,
    BLAME_MISSING,
    BLAME_SCHEDULING,
    BLAME_SCHEDULING_DIRECT,
    State,
)
from jubako.records import record

GOOD = (State.DONE, State.COMPLETE)
BAD = (State.FAILED, State.MISSING, State.UNSCHEDULED, State.DENIED, State.STUCK)
AT_WORK = (State.RUNNING, State.RAN, State.JOINED)

_OF_STANDING = {
    "complete": State.COMPLETE,
    "missing": State.MISSING,
    "broken": State.UNSCHEDULED,
    "disabled": State.DENIED,
}
_BLAME: dict[State | None, int] = {
    State.FAILED: BLAME_FAILED,
    State.MISSING: BLAME_MISSING,
    State.UNSCHEDULED: BLAME_SCHEDULING | BLAME_SCHEDULING_DIRECT,
    State.DENIED: BLAME_DENIED,
}

# How an attempt goes: ("ok",) ("there",) ("fail",) ("conflict",) ("elsewhere", seconds) ("yield", numbers)
Outcome = tuple[Any, ...]

FEATURES = (
    "backoff", "batches", "conflicts", "elsewhere", "failures", "late", "pause", "priorities", "resources", "retries",
    "rings", "standings", "stop", "yields",
)  # fmt: skip


@record
class Job:
    """A task: what the engine is told of it, and how its attempts go; when the script is at its end, they go well."""

    found: Found
    script: Sequence[Outcome] = ()
    is_late: bool = False  # not known before somebody asks for it while running


@record
class Work:
    """All there is to do, and with what."""

    jobs: Sequence[Job]
    slots: int
    capacities: Mapping[str, int]
    backoff: Backoff


def make_work(size: int, features: Iterable[str], chance: random.Random) -> Work:
    """Random jobs. Each requires only what has a higher rank, so there is no ring, unless run() asks for one."""
    features = frozenset(features)
    ranks = chance.sample(range(size), size)
    by_rank = sorted(range(size), key=ranks.__getitem__)
    capacities = {"cpu": chance.randint(1, 8), "gpu": chance.randint(1, 3), "db": 1} if "resources" in features else {}
    late = {n for n in range(size) if "late" in features and chance.random() < 0.2}

    often_dependent = chance.choice([0.0, 0.4, 0.9])

    def above(number: int, often: float) -> tuple[int, ...]:
        higher = by_rank[ranks[number] + 1 :]
        near = higher[:12] if chance.random() < 0.7 else higher
        return tuple(chance.choices(near, k=chance.randint(0, 4))) if near and chance.random() < often else ()

    needed = {"fail": "failures", "conflict": "conflicts", "elsewhere": "elsewhere", "there": "elsewhere"}
    kinds = [kind for kind, feature in {**needed, "yield": "yields"}.items() if feature in features]

    def script(number: int) -> Iterable[Outcome]:
        for _ in range(chance.choice([0, 0, 1, 1, 2, 4]) if kinds else 0):
            kind = chance.choice(kinds)
            if kind == "elsewhere":
                yield ("elsewhere", chance.choice([0.0, 0.5, 3.0]))
            elif kind == "yield":
                anywhere = tuple(chance.choices(range(size), k=2))
                yield ("yield", anywhere if "rings" in features and chance.random() < 0.3 else above(number, 1.0))
            elif kind != "there" or chance.random() < 0.3:
                yield (kind,)

    def found(number: int) -> Found:
        standing: Any = "pending"
        if "standings" in features and chance.random() < 0.15:
            standing = chance.choice(["complete", "complete", "missing", "broken", "disabled"])
        group = chance.randint(-1, 3) if "batches" in features else -1
        needs: dict[str, int] = {}
        dice = random.Random(group) if group >= 0 else chance  # those of a group need the same
        if capacities and dice.random() < 0.6:
            for name in dice.sample(sorted(capacities), dice.randint(1, 3)):
                most = dice.choice([1, 2, capacities[name]]) if name == "cpu" else capacities[name]
                needs[name] = dice.randint(1, most) + (dice.random() < 0.01)  # sometimes more than there is
        return Found(
            number,
            standing,
            above(number, often_dependent) if standing == "pending" else (),
            chance.choice([0, 0, 1, 2.5, -3]) if "priorities" in features else 0,
            tuple(needs.items()),
            chance.randint(1, 4) if "retries" in features else 1,
            Backoff(chance.randint(0, 5), chance.choice([1, 2])) if "backoff" in features and number % 3 == 0 else None,
            group,
            group + 2 if group >= 0 else 1,
        )

    return Work(
        [Job(found(number), tuple(script(number)), number in late) for number in range(size)],
        chance.randint(1, 9),
        capacities,
        Backoff(10, 3, 60) if "backoff" in features else Backoff(),
    )


def foresee(work: Work, known: Iterable[int]) -> dict[int, State | None]:
    """How each of `known` ends if nothing stops the run; None for those that a ring is in the way of."""
    ends: dict[int, State | None] = {}

    def end_of(number: int) -> State | None:
        if number not in ends:
            ends[number] = _end(work, work.jobs[number], end_of)
        return ends[number]

    # A ring's members are seen through each other: only what no ring is in the way of is sure.
    reached = {number: _reach(work, number) for number in known}
    in_ring = {number for number, others in reached.items() if number in others}
    ends.update({number: None for number, others in reached.items() if not in_ring.isdisjoint(others)})
    for number in known:
        end_of(number)
    return ends


def _reach(work: Work, start: int) -> set[int]:
    """All that `start` may wait for, near and far."""
    seen: set[int] = set()
    pending = [start]
    while pending:
        new = _all_dependencies(work.jobs[pending.pop()]) - seen
        seen |= new
        pending += new
    return seen


def _all_dependencies(job: Job) -> set[int]:
    return {*job.found.dependencies, *(n for kind, *rest in job.script if kind == "yield" for n in rest[0])}


def _end(work: Work, job: Job, end_of: Any) -> State | None:
    if job.found.standing != "pending":
        return _OF_STANDING[job.found.standing]
    if is_too_much(work, job):
        return State.DENIED
    left = job.found.attempts
    waits_for: Sequence[int] = job.found.dependencies
    for kind, *rest in (*job.script, ("ok",)):
        if any(end_of(number) not in GOOD for number in waits_for):
            return State.STUCK
        waits_for = ()
        if kind == "ok":
            return State.DONE
        if kind == "there":
            return State.COMPLETE
        if kind == "fail":
            left -= 1
            if left == 0:
                return State.FAILED
        elif kind == "yield":
            waits_for = rest[0]
    return State.DONE


def is_too_much(work: Work, job: Job) -> bool:
    return any(amount > work.capacities.get(name, 1) for name, amount in job.found.needs)


class Plain:
    """Follows a run: `states` of all known tasks, worked out anew after every event."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.states: dict[int, State] = {}
        self.waits_for: dict[int, set[int]] = {}
        self.due_s: dict[int, float] = {}
        self.members: dict[int, list[int]] = {}  # by the one that was started: all that run as one
        self.attempts: dict[int, int] = {}
        self.failures: dict[int, int] = {}
        self.successes: list[int] = []
        self.is_open = self.is_paused = self.is_stopped = False

    # what is told

    def find(self, number: int) -> None:
        job = self.work.jobs[number]
        standing = job.found.standing
        state = State.WAITING if standing == "pending" else _OF_STANDING[standing]
        self.states[number] = State.DENIED if standing == "pending" and is_too_much(self.work, job) else state
        self.waits_for[number] = set(job.found.dependencies)
        self.attempts[number] = job.found.attempts
        self.failures[number] = 0

    def start(self, number: int, others: Sequence[int]) -> None:
        self.states[number] = State.RUNNING
        for other in others:
            self.states[other] = State.JOINED
        self.members[number] = [number, *others]

    def run_ended(self, number: int) -> None:
        self.states[number] = State.RAN

    def end(self, number: int, outcome: Outcome, now_s: float) -> None:
        kind = outcome[0]
        self.members.pop(number, None)
        if kind in ("ok", "there"):
            self.states[number] = State.DONE if kind == "ok" else State.COMPLETE
            self.successes.append(number)
        elif kind == "cancel":
            self.states[number] = State.STOPPED
        elif kind == "elsewhere":
            self.states[number], self.due_s[number] = State.DELAYED, now_s + outcome[1]
        elif kind == "yield":
            self.states[number] = State.WAITING
            self.waits_for[number] |= set(outcome[1])
        else:
            counts = kind == "fail"
            self.attempts[number] -= counts
            self.failures[number] += counts
            if self.attempts[number] == 0 or self.is_stopped:
                self.states[number] = State.FAILED
            else:
                self.states[number] = State.DELAYED
                self.due_s[number] = now_s + self._wait_s(number)
                self.wake(now_s)

    def _wait_s(self, number: int) -> float:
        backoff = self.work.jobs[number].found.backoff or self.work.backoff
        wait_s = backoff.delay_s
        for _ in range(self.failures[number] - 1):
            wait_s *= backoff.factor
        return min(wait_s, backoff.most_s)

    def wake(self, now_s: float) -> None:
        for number in [number for number, due_s in self.due_s.items() if due_s <= now_s]:
            del self.due_s[number]
            self.states[number] = State.READY

    def entangle(self, number: int) -> None:
        self.states[number] = State.UNSCHEDULED

    def settle(self) -> list[int]:
        """Moves on whoever waits for something that has ended; those that are stuck now."""
        stuck: list[int] = []
        while True:
            moved = False
            for number, state in self.states.items():
                if state is not State.WAITING:
                    continue
                ends = [self.states.get(other) for other in self.waits_for[number]]
                if any(end in BAD for end in ends):
                    self.states[number], moved = State.STUCK, True
                    stuck.append(number)
                elif all(end in GOOD for end in ends):
                    self.states[number], moved = State.READY, True
            if not moved:
                return stuck

    # what may be asked

    def startable(self) -> list[int]:
        """Those that nothing holds back but workers and resources, the most important first."""
        ready = [number for number, state in self.states.items() if state is State.READY]
        return sorted(ready, key=self.entry)

    def entry(self, number: int) -> tuple[float, int]:
        return -self.work.jobs[number].found.priority, number

    def busy_slots(self) -> int:
        return sum(state is State.RUNNING for state in self.states.values())

    def left(self) -> dict[str, int]:
        """What is left of each resource: only those who lead a batch take any."""
        left = dict(self.work.capacities)
        for leader in self.members:
            for name, amount in self.work.jobs[leader].found.needs:
                left[name] -= amount
        return left

    def is_over(self) -> bool:
        states = self.states.values()
        if any(state in AT_WORK for state in states):
            return False
        return self.is_stopped or not (self.due_s or State.READY in states)

    def blame(self, number: int) -> int:
        """Why a task is stuck: what is wrong with all it waits for, and with what those that are stuck wait for."""
        bits = 0
        seen = {number} if self.states[number] is State.STUCK else set()
        pending = [(other, True) for one in seen for other in self.waits_for[one]]
        while pending:
            other, is_direct = pending.pop()
            state = self.states.get(other)
            if state is State.STUCK and other not in seen:
                seen.add(other)
                pending += [(further, False) for further in self.waits_for[other]]
            bits |= _BLAME.get(state, 0) & ~(0 if is_direct else BLAME_SCHEDULING_DIRECT)
        return bits
