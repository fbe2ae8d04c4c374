"""Random graphs through the engine and through `plain_scheduler`: the same states all along and in the end.

Up to 300 tasks that fail, are tried again later, conflict, wait for other runs, ask for more while they run, wait for
each other in rings, run as one, need resources, are disabled, missing or there; events come singly and many at once, as
when a worker dies with all it has; the run is paused, and sometimes stopped. After every event

    states      are what scanning everything says, and so are their counts, who is blamed, and if the run is over
    starts      only of tasks whose dependencies are there, which do not run and have not run well before
    limits      of workers, resources and batches are kept
    order       nobody starts before somebody more important who could; nobody waits whom nothing holds back
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flow.engine.plain_scheduler import AT_WORK, BAD, FEATURES, GOOD, Job, Outcome, Plain, foresee, make_work
from jubako.flow.engine.engine import Engine
from jubako.flow.engine.engine_events import (
    Cancelled,
    Elsewhere,
    Entangled,
    Event,
    Failed,
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
from jubako.flow.engine.transitions import State
from jubako.flow.graph.graph import find_cycle


class Play:
    """One run of random work, told to both; what it notices is an AssertionError."""

    def __init__(self, size: int, features: Sequence[str], seed: int) -> None:
        self.chance = random.Random(seed)
        self.features = frozenset(features)
        self.work = make_work(size, features, self.chance)
        self.engine = Engine(slots=self.work.slots, capacities=self.work.capacities, backoff=self.work.backoff)
        self.plain = Plain(self.work)
        self.scripts = {number: list(job.script) for number, job in enumerate(self.work.jobs)}
        self.now_s = 0.0
        self.given_up: set[int] = set()
        self.looks_every = 1 + size // 30
        self.steps = 0

    def job(self, number: int) -> Job:
        return self.work.jobs[number]

    def run(self) -> None:
        first = [number for number, job in enumerate(self.work.jobs) if not job.is_late]
        first = self.reach(first)
        self.chance.shuffle(first)
        for number in first:
            self.tell(self.find(number))
        self.plain.is_open = True
        self.tell([Planned()])
        while True:
            if self.plain.is_over():
                self.look()
                if self.plain.is_stopped or not self.untangle():
                    break
                continue
            self.step()
        self.judge()

    def step(self) -> None:
        """Something happens."""
        plain, chance = self.plain, self.chance
        at_work = [number for number, state in plain.states.items() if state in AT_WORK]
        if "stop" in self.features and chance.random() < 0.01:
            plain.is_stopped = True
            self.tell([Stop()])
        elif plain.is_paused and (chance.random() < 0.2 or not at_work):
            plain.is_paused = False
            self.tell([Resume()])
        elif "pause" in self.features and chance.random() < 0.05:
            plain.is_paused = True
            self.tell([Pause()])
        elif not at_work or (plain.due_s and chance.random() < 0.2):
            self.now_s = max(self.now_s, min(plain.due_s.values(), default=self.now_s)) + chance.choice([0, 0, 1, 60])
            plain.wake(self.now_s)
            self.tell([Tick()])
        else:
            self.now_s += chance.choice([0.0, 0.1, 2.0])
            many = chance.random() < 0.1  # a worker dies, or much has happened since the loop came round
            ended = chance.sample(at_work, chance.randint(1, len(at_work))) if many else [chance.choice(at_work)]
            self.tell([event for number in ended for event in self.go_on(number)])

    def go_on(self, number: int) -> list[Event]:
        """The next that becomes of a task that is at work."""
        plain = self.plain
        if plain.states[number] is State.RUNNING and self.chance.random() < 0.3 and self.outcome(number)[0] in _AFTER:
            plain.run_ended(number)
            return [Ran(number)]
        if plain.is_stopped and self.chance.random() < 0.5:
            plain.end(number, ("cancel",), self.now_s)
            return [Cancelled(number)]
        outcome = self.outcome(number)
        if self.scripts[number]:
            self.scripts[number].pop(0)
        events = [event for other in self.reach(outcome[1]) for event in self.find(other)] if _asks(outcome) else []
        plain.end(number, outcome, self.now_s)
        return [*events, _event(number, outcome, self.now_s)]

    def outcome(self, number: int) -> Outcome:
        return self.scripts[number][0] if self.scripts[number] else ("ok",)

    def reach(self, numbers: Sequence[int]) -> list[int]:
        """Those of `numbers`, and of what they depend on, that are not known yet."""
        new: dict[int, None] = {}
        pending = list(numbers)
        while pending:
            number = pending.pop()
            if number not in new and number not in self.plain.states:
                new[number] = None
                pending += self.job(number).found.dependencies
        return list(new)

    def find(self, number: int) -> list[Event]:
        self.plain.find(number)
        return [self.job(number).found]

    def untangle(self) -> bool:
        """Gives up one task of a ring, as the run loop does; there is one exactly while somebody waits."""
        waiting = [number for number, state in self.plain.states.items() if state is State.WAITING]
        ring = find_cycle(self.engine, only_waiting=True)
        assert bool(ring) == bool(waiting)
        for number, other in zip(ring, [*ring[1:], *ring[:1]], strict=True):
            assert other in self.plain.waits_for[number]
        if ring:
            self.plain.entangle(ring[0])
            self.tell([Entangled(ring[0])])
        return bool(ring)

    # what must hold

    def tell(self, events: list[Event]) -> None:
        """Tells the engine; looks at what it answers."""
        said = self.engine.handle_all(events, self.now_s)
        stuck = self.plain.settle()
        self.check_given_up([instruction for instruction in said if isinstance(instruction, GiveUp)], stuck)
        self.check_starts([instruction for instruction in said if isinstance(instruction, Start)])
        self.steps += 1
        if self.steps % self.looks_every == 0:
            self.look()

    def check_given_up(self, said: Sequence[GiveUp], stuck: Sequence[int]) -> None:
        assert sorted(instruction.task for instruction in said) == sorted(stuck)
        assert self.given_up.isdisjoint(stuck)
        self.given_up.update(stuck)
        for instruction in said:
            assert self.plain.states[instruction.because] in BAD

    def check_starts(self, said: Sequence[Start]) -> None:
        plain = self.plain
        may = plain.is_open and not (plain.is_paused or plain.is_stopped)
        assert may or not said
        for instruction in said:
            batch = [instruction.task, *instruction.others]
            for number in batch:
                assert plain.states[number] is State.READY
                assert all(plain.states[other] in GOOD for other in plain.waits_for[number])
            found = [self.job(number).found for number in batch]
            assert len(batch) == 1 or {each.group for each in found} == {max(found[0].group, 0)}
            assert len(batch) <= found[0].most
            plain.start(instruction.task, instruction.others)
            assert plain.busy_slots() <= self.work.slots
            assert min(plain.left().values(), default=0) >= 0
        if may:
            self.check_who_waits([instruction.task for instruction in said], said)

    def check_who_waits(self, leaders: Sequence[int], said: Sequence[Instruction]) -> None:
        plain, left = self.plain, self.plain.left()
        waiting = plain.startable()
        is_full = plain.busy_slots() == self.work.slots
        for number in waiting:
            found = self.job(number).found
            if not found.needs:
                assert is_full
                assert all(plain.entry(leader) < plain.entry(number) for leader in leaders)
                for start in said:
                    if isinstance(start, Start) and self.job(start.task).found.group == found.group >= 0:
                        joined = [plain.entry(other) for other in start.others]
                        assert len(joined) == found.most - 1
                        assert all(entry < plain.entry(number) for entry in joined)
            elif not is_full and all(left[name] >= amount for name, amount in found.needs):
                assert any(self.stands_before(other, number, left) for other in waiting)
        for leader in leaders:
            assert not any(self.is_overtaken(number, leader, waiting, left) for number in waiting)

    def stands_before(self, other: int, number: int, left: dict[str, int]) -> bool:
        """Whether `other` is more important, and waits for a resource that `number` needs too and is short."""
        if self.plain.entry(other) >= self.plain.entry(number):
            return False
        names = {name for name, _ in self.job(number).found.needs}
        return any(name in names and amount > left[name] for name, amount in self.job(other).found.needs)

    def is_overtaken(self, number: int, leader: int, waiting: Sequence[int], left: dict[str, int]) -> bool:
        """Whether `leader` has got something of the one resource that the more important `number` waits for."""
        if self.plain.entry(leader) < self.plain.entry(number):
            return False
        before = [self.job(other).found.needs for other in waiting[: waiting.index(number)]]
        queued = {name for needs in before for name, _ in needs}
        places = [name for name, amount in self.job(number).found.needs if amount > left[name] or name in queued]
        return len(places) == 1 and places[0] in dict(self.job(leader).found.needs)

    def look(self) -> None:
        """All states, all counts."""
        engine, plain = self.engine, self.plain
        states = {number: engine.state(number) for number in plain.states}
        assert {number: _plainly(state) for number, state in states.items()} == plain.states
        counts = Counter(states.values())
        assert [engine.count(state) for state in State if state is not State.NEW] == [
            counts[state] for state in State if state is not State.NEW
        ]
        assert engine.next_due_s == min(plain.due_s.values(), default=None)
        assert engine.is_over == plain.is_over()
        for number in plain.states:
            assert engine.blame(number) == plain.blame(number)

    def judge(self) -> None:
        """In the end: nobody ran well twice, and all came to what they had to come to."""
        plain = self.plain
        assert len(plain.successes) == len(set(plain.successes))
        if plain.is_stopped:
            return
        foreseen = foresee(self.work, plain.states)
        assert {n: s for n, s in plain.states.items() if foreseen[n] is not None} == {
            n: s for n, s in foreseen.items() if s is not None
        }
        assert all(state in (*GOOD, *BAD) for state in plain.states.values())


_AFTER = ("ok", "fail", "conflict")  # what can come after Ran


def _asks(outcome: Outcome) -> bool:
    return bool(outcome[0] == "yield")


def _event(number: int, outcome: Outcome, now_s: float) -> Event:
    match outcome:
        case ("ok",):
            return Published(number)
        case ("there",):
            return There(number)
        case ("fail",):
            return Failed(number)
        case ("conflict",):
            return Failed(number, again=True)
        case ("elsewhere", wait_s):
            return Elsewhere(number, now_s + wait_s)
        case ("yield", numbers):
            return Yielded(number, numbers)
    raise AssertionError(outcome)


def _plainly(state: State) -> State:
    """Blocked is ready: the plain scheduler has no queues."""
    return State.READY if state is State.BLOCKED else state


SEEDS = st.integers(0, 1 << 48)
CHOSEN: Any = st.sets(st.sampled_from(FEATURES)).map(sorted)


@settings(max_examples=250)
@given(st.integers(1, 40), CHOSEN, SEEDS)
@example(300, FEATURES, 1)
@example(300, ["resources", "priorities", "retries", "failures", "batches"], 2)
def test_engine_and_plain_scheduler_agree(size: int, features: Sequence[str], seed: int) -> None:
    Play(size, features, seed).run()


@pytest.mark.parametrize("features", ["resources priorities", "failures retries backoff", "batches priorities"])
def test_engine_and_plain_scheduler_agree_on_what_is_rare_elsewhere(features: str) -> None:
    for seed in range(25):
        Play(100, features.split(), seed).run()


@pytest.mark.soak
@settings(max_examples=5000, derandomize=False)
@given(st.integers(1, 300), CHOSEN, SEEDS)
def test_engine_and_plain_scheduler_agree_on_many_and_large_graphs(
    size: int, features: Sequence[str], seed: int
) -> None:
    Play(size, features, seed).run()
