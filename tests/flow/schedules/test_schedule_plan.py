"""What a schedule does now: each policy by hand, and any sequence of events against a model that takes them singly."""

from __future__ import annotations

from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.flow.schedules.cron import Cron
from jubako.flow.schedules.firings import Rule
from jubako.flow.schedules.schedule import CatchUp, Overlap
from jubako.flow.schedules.schedule_plan import GRACE_S, QUEUE_LIMIT, Decision, Dropped, Progress, decide

MINUTELY = Rule(Cron("* * * * *"), ZoneInfo("UTC"))
HOURLY = Rule(Cron("0 * * * *"), ZoneInfo("UTC"))
HOUR = 3600


def look(
    progress: Progress, now_s: int, *, catch_up: CatchUp = "latest", overlap: Overlap = "queue", running: int = 0
) -> Decision:
    return decide(HOURLY, progress, now_s, catch_up=catch_up, overlap=overlap, running=running)


def test_decide_before_a_firing_does_nothing() -> None:
    assert look(Progress(0), HOUR - 1) == Decision(Progress(HOUR - 1), (), ())


def test_decide_at_a_firing_starts_it() -> None:
    assert look(Progress(0), HOUR) == Decision(Progress(HOUR), (HOUR,), ())
    assert look(Progress(HOUR), HOUR) == Decision(Progress(HOUR), (), ())


@pytest.mark.parametrize(
    ("catch_up", "start", "waiting", "dropped"),
    [
        ("latest", (3 * HOUR,), (), (Dropped("missed", (HOUR, 2 * HOUR)),)),
        ("all", (HOUR,), (2 * HOUR, 3 * HOUR), ()),
        ("none", (), (), (Dropped("missed", (HOUR, 2 * HOUR, 3 * HOUR)),)),
    ],
)
def test_decide_after_missed_firings_makes_up_for_what_it_should(
    catch_up: CatchUp, start: tuple[int, ...], waiting: tuple[int, ...], dropped: tuple[Dropped, ...]
) -> None:
    now_s = 3 * HOUR + GRACE_S + 1
    assert look(Progress(0), now_s, catch_up=catch_up) == Decision(Progress(now_s, waiting), start, dropped)


def test_decide_a_little_late_is_not_missed() -> None:
    assert look(Progress(0), HOUR + GRACE_S, catch_up="none").start == (HOUR,)


@pytest.mark.parametrize(
    ("overlap", "start", "waiting", "dropped"),
    [
        ("queue", (), (HOUR,), ()),
        ("skip", (), (), (Dropped("busy", (HOUR,)),)),
        ("allow", (HOUR,), (), ()),
    ],
)
def test_decide_while_a_run_goes_on_follows_the_policy(
    overlap: Overlap, start: tuple[int, ...], waiting: tuple[int, ...], dropped: tuple[Dropped, ...]
) -> None:
    decision = look(Progress(0), HOUR, overlap=overlap, running=1)
    assert decision == Decision(Progress(HOUR, waiting), start, dropped)


@pytest.mark.parametrize("overlap", get_args(Overlap))
def test_decide_makes_up_for_missed_firings_one_at_a_time(overlap: Overlap) -> None:
    now_s = 3 * HOUR + GRACE_S + 1
    first = look(Progress(0), now_s, catch_up="all", overlap=overlap)
    assert first.start == (HOUR,)
    assert look(first.progress, now_s, catch_up="all", overlap=overlap, running=1).start == ()
    assert look(first.progress, now_s, catch_up="all", overlap=overlap).start == (2 * HOUR,)


@pytest.mark.parametrize("overlap", get_args(Overlap))
def test_decide_a_firing_that_is_due_together_with_missed_ones_is_not_lost(overlap: Overlap) -> None:
    decision = look(Progress(0), 3 * HOUR, catch_up="all", overlap=overlap)
    assert decision == Decision(Progress(3 * HOUR, (2 * HOUR, 3 * HOUR)), (HOUR,), ())


def test_decide_with_more_waiting_than_the_limit_gives_up_the_oldest() -> None:
    now_s = (QUEUE_LIMIT + 5) * HOUR + GRACE_S + 1
    decision = look(Progress(0), now_s, catch_up="all")
    assert decision.start == (HOUR,)
    assert decision.dropped == (Dropped("limit", tuple(HOUR * n for n in range(2, 6))),)
    assert len(decision.progress.waiting) == QUEUE_LIMIT
    assert decision.progress.waiting[-1] == (QUEUE_LIMIT + 5) * HOUR


def test_decide_when_the_clock_went_back_brings_nothing_up_again() -> None:
    progress = look(Progress(4 * HOUR), 5 * HOUR).progress
    back = look(progress, 2 * HOUR)
    assert back == Decision(progress, (), ())
    assert look(back.progress, 5 * HOUR).start == ()
    assert look(back.progress, 6 * HOUR).start == (6 * HOUR,)


def test_settled_is_before_what_waits() -> None:
    assert Progress(100).settled_s == 100
    assert Progress(100, (60, 90)).settled_s == 59


STEPS = st.lists(
    st.one_of(
        st.integers(-300, 1200).map(lambda seconds: ("time", seconds)),
        st.integers(0, 3).map(lambda which: ("end", which)),
    ),
    max_size=25,
)


class Model:
    """Takes firings one by one, each with what is known of it, and no sums of any kind."""

    def __init__(self, catch_up: CatchUp, overlap: Overlap) -> None:
        self.catch_up, self.overlap = catch_up, overlap
        self.seen_s = 0
        self.waiting: list[int] = []
        self.dropped: list[int] = []
        self.started: list[int] = []

    def look(self, now_s: int, running: int) -> list[int]:
        """What it starts."""
        before = len(self.started)
        was_busy = bool(running or self.waiting)
        due = []
        while self.seen_s < now_s:
            self.seen_s += 1
            if self.seen_s % 60 == 0:
                due.append(self.seen_s)
        late = [moment for moment in due if moment + GRACE_S < now_s]
        for moment in due:
            if moment in late:
                is_kept = self.catch_up == "all" or (self.catch_up == "latest" and moment == late[-1])
                (self.waiting if is_kept else self.dropped).append(moment)
            elif self.overlap == "allow" and not self.waiting:
                self.started.append(moment)
            elif self.overlap == "skip" and (was_busy or len(self.started) > before):
                self.dropped.append(moment)
            else:
                self.waiting.append(moment)
                if not was_busy and len(self.started) == before:
                    self.started.append(self.waiting.pop(0))
        if self.waiting and not running and len(self.started) == before:
            self.started.append(self.waiting.pop(0))
        while len(self.waiting) > QUEUE_LIMIT:
            self.dropped.append(self.waiting.pop(0))
        return self.started[before:]


@given(STEPS, st.sampled_from(get_args(CatchUp)), st.sampled_from(get_args(Overlap)))
def test_decide_again_and_again_is_what_a_model_does_and_forgets_no_firing(
    steps: list[tuple[str, int]], catch_up: CatchUp, overlap: Overlap
) -> None:
    model, progress, now_s = Model(catch_up, overlap), Progress(0), 0
    running: list[int] = []
    started: list[int] = []
    dropped: list[int] = []
    for kind, value in steps:
        if kind == "end" and running:
            running.pop(value % len(running))
        elif kind == "time":
            now_s = max(0, now_s + value)
        decision = decide(MINUTELY, progress, now_s, catch_up=catch_up, overlap=overlap, running=len(running))
        assert list(decision.start) == model.look(now_s, len(running))
        if overlap != "allow":
            assert len(running) + len(decision.start) <= 1
        progress = decision.progress
        running += decision.start
        started += decision.start
        dropped += [moment for each in decision.dropped for moment in each.moments]
    assert progress == Progress(model.seen_s, tuple(model.waiting))
    assert sorted(dropped) == sorted(model.dropped)
    assert started == sorted(started)
    assert sorted([*started, *dropped, *progress.waiting]) == list(range(60, progress.seen_s + 1, 60))
