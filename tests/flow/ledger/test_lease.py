"""Leases between runs that share one database: each run has a connection of its own, as processes would."""

from __future__ import annotations

import pytest

from jubako.flow.clock import Moment
from jubako.flow.ledger.lease import LEASE_S, Claim, is_expired

from .conftest import NOW, Begin


def test_claim_of_what_a_living_run_holds_names_that_run(begin: Begin) -> None:
    first, second = begin("r1"), begin("r2")
    assert set(first.leases.claim(["a", "b"], NOW).tokens) == {"a", "b"}
    claim = second.leases.claim(["b", "c"], NOW)
    assert (set(claim.tokens), claim.holders) == ({"c"}, {"b": "r1"})


def test_claim_in_another_pipeline_is_independent(begin: Begin) -> None:
    begin("r1").leases.claim(["a"], NOW)
    assert begin("r2", pipeline="q").leases.claim(["a"], NOW).holders == {}


def test_claim_again_by_the_same_run_changes_nothing(begin: Begin) -> None:
    run = begin("r1")
    run.leases.claim(["a"], NOW)
    assert run.leases.claim(["a"], NOW) == Claim({}, {})
    assert run.leases.find_lost(["a"]) == []


def test_released_lease_can_be_taken(begin: Begin) -> None:
    first, second = begin("r1"), begin("r2")
    first.leases.claim(["a"], NOW)
    first.leases.release(["a", "never held"])
    assert second.leases.claim(["a"], NOW).holders == {}


def test_lease_of_a_run_whose_lock_is_free_is_taken_over(begin: Begin, locked: set[str]) -> None:
    first, second = begin("r1"), begin("r2")
    first.leases.claim(["a"], NOW)
    locked.remove("r1")
    assert set(second.leases.claim(["a"], NOW).tokens) == {"a"}
    assert first.leases.find_lost(["a"]) == ["a"]


def test_lease_of_a_stopped_run_expires_and_its_token_is_worth_nothing(begin: Begin) -> None:
    first, second = begin("r1"), begin("r2")
    first.leases.claim(["a"], NOW)
    later = Moment("boot-1", NOW.monotonic_s + LEASE_S + 1)
    assert set(second.leases.claim(["a"], later).tokens) == {"a"}
    first.beat(later)
    assert first.leases.find_lost(["a"]) == ["a"]
    first.leases.release(["a"])
    assert second.leases.find_lost(["a"]) == []


def test_heartbeat_keeps_the_lease(begin: Begin) -> None:
    first, second = begin("r1"), begin("r2")
    first.leases.claim(["a"], NOW)
    later = Moment("boot-1", NOW.monotonic_s + LEASE_S + 1)
    first.beat(later)
    assert second.leases.claim(["a"], later).holders == {"a": "r1"}


def test_run_that_does_not_beat_keeps_its_leases_while_locked(begin: Begin) -> None:
    first, second = begin("r1", beats=False), begin("r2")
    first.leases.claim(["a"], NOW)
    assert second.leases.claim(["a"], Moment("boot-1", 1e9)).holders == {"a": "r1"}


def test_token_never_repeats(begin: Begin) -> None:
    run = begin("r1")
    seen = []
    for _ in range(3):
        seen += run.leases.claim(["a", "b"], NOW).tokens.values()
        run.leases.release(["a", "b"])
    assert len(set(seen)) == 6


def test_ended_run_holds_nothing(begin: Begin) -> None:
    first, second = begin("r1"), begin("r2")
    first.leases.claim(["a"], NOW)
    first.end("SUCCESS", {"done": 1}, 1.0)
    assert second.leases.claim(["a"], NOW).holders == {}


def test_leases_of_dead_runs_are_dropped_when_a_run_begins(begin: Begin, locked: set[str]) -> None:
    first, second = begin("r1"), begin("r2")
    first.leases.claim(["a", "b"], NOW)
    second.leases.claim(["c"], NOW)
    locked.remove("r1")
    third = begin("r3")
    rows = third._connection.execute("SELECT task_id FROM leases").fetchall()
    assert (rows, third.leases.has_company) == ([("c",)], True)
    locked.remove("r2")
    assert not begin("r4").leases.has_company


def test_company_is_noticed_by_the_tokens_it_took(begin: Begin) -> None:
    first, second = begin("r1"), begin("r2")
    first.leases.claim(["a"], NOW)
    first.leases.claim(["b"], NOW)
    assert not first.leases.has_company
    second.leases.claim(["c"], NOW)
    second.leases.release(["c"])
    first.leases.claim(["d"], NOW)
    assert first.leases.has_company


def test_leases_do_not_change_how_durable_commits_are(begin: Begin) -> None:
    run = begin("r1")
    run.leases.claim(["a"], NOW)
    (synchronous,) = run._connection.execute("PRAGMA synchronous").fetchone()
    assert synchronous == 2


@pytest.mark.parametrize(
    ("boot_id", "expires_s", "expired"),
    [("boot-1", 999.0, True), ("boot-1", 1001.0, False), ("boot-1", None, False), ("boot-0", 1e9, True)],
)
def test_is_expired(boot_id: str, expires_s: float | None, expired: bool) -> None:
    assert is_expired(boot_id, expires_s, NOW) is expired
