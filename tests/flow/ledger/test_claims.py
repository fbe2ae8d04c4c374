"""Claiming ahead: one commit for many quick tasks, no hoarding of slow ones."""

from __future__ import annotations

import pytest

from jubako.flow.ledger.claims import Claims
from jubako.flow.ledger.ledger import Ledger
from jubako.testing import FakeClock, begin_fake_run, open_memory_ledger


def test_quick_tasks_are_claimed_in_growing_batches() -> None:
    with open_memory_ledger() as ledger:
        run, clock = begin_fake_run(ledger), FakeClock()
        waiting = [f"T_{n}" for n in range(1000)]
        asked = []

        def upcoming(limit: int) -> list[str]:
            asked.append(limit)
            return waiting[:limit]

        claims = Claims(run.leases, upcoming)
        for _ in range(1000):
            assert claims.claim(waiting.pop(0), clock.moment()) is None
            clock.advance(0.0001)
    batches = [limit for limit in asked if limit != 1]
    assert batches == [0, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256][: len(batches)]
    assert len(asked) < 24


def test_task_that_comes_in_between_does_not_look_through_what_is_claimed_already() -> None:
    with open_memory_ledger() as ledger:
        run, clock = begin_fake_run(ledger), FakeClock()
        asked: list[int] = []

        def upcoming(limit: int) -> list[str]:
            asked.append(limit)
            return [f"T_{n}" for n in range(limit)]

        claims = Claims(run.leases, upcoming)
        for name in ("a", "b", "c", "d", "e"):
            claims.claim(name, clock.moment())
        assert asked == [0, 1, 1, 1, 1]
        assert set(run.leases.tokens) == {"a", "b", "c", "d", "e", "T_0"}


def test_slow_tasks_are_claimed_one_at_a_time() -> None:
    with open_memory_ledger() as ledger:
        run, clock = begin_fake_run(ledger), FakeClock()
        claims = Claims(run.leases, lambda limit: [f"later {n}" for n in range(limit)])
        for n in range(5):
            claims.claim(f"T_{n}", clock.moment())
            clock.advance(10)
        assert set(run.leases.tokens) == {f"T_{n}" for n in range(5)}


@pytest.fixture
def other_clock() -> FakeClock:
    return FakeClock()


def test_task_of_another_run_is_named_with_that_run(other_clock: FakeClock) -> None:
    with open_memory_ledger() as ledger:
        hold(ledger, "T_1")
        run = begin_fake_run(ledger, "run-2")
        claims = Claims(run.leases, lambda limit: [])
        assert claims.claim("T_1", other_clock.moment()) == "run-1"
        assert claims.claim("T_2", other_clock.moment()) is None
        assert run.leases.has_company


def hold(ledger: Ledger, task_id: str) -> None:
    begin_fake_run(ledger, "run-1").leases.claim([task_id], FakeClock().moment())
