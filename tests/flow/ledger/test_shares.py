"""What runs share of resources: each run has a connection of its own, as processes would."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from jubako.boxes.transactions.database import open_database
from jubako.flow.clock import Moment
from jubako.flow.ledger.lease import LEASE_S
from jubako.flow.ledger.ledger import Ledger, LedgerRun

NOW = Moment("boot-1", 1000.0)
GPUS = {"gpu": 2, "db": 1}
Begin = Callable[..., LedgerRun]


@pytest.fixture
def locked() -> set[str]:
    """Ids of the runs whose lock is held."""
    return set()


@pytest.fixture
def begin(tmp_path: Path, locked: set[str]) -> Begin:
    connections: list[sqlite3.Connection] = []

    def begin_run(run_id: str, pipeline: str = "p") -> LedgerRun:
        locked.add(run_id)
        connection = open_database(str(tmp_path / "ledger.sqlite"), durability="full")
        connections.append(connection)
        return Ledger(connection).begin_run(
            run_id, pipeline, asked="T()", mode="none", pid=7, now=NOW, now_s=0.0, beats=True,
            is_locked=locked.__contains__,
        )  # fmt: skip

    return begin_run


def test_what_is_left_can_be_taken_by_any_run_of_any_pipeline(begin: Begin) -> None:
    first, second = begin("r1").shares, begin("r2", "q").shares
    assert first.take("a", (("gpu", 1),), GPUS, NOW) is None
    assert second.take("b", (("gpu", 2),), GPUS, NOW) == "gpu"
    assert second.take("b", (("gpu", 1),), GPUS, NOW) is None
    assert first.take("c", (("gpu", 1),), GPUS, NOW) == "gpu"


def test_all_that_a_task_needs_is_taken_or_nothing(begin: Begin) -> None:
    first, second = begin("r1").shares, begin("r2").shares
    first.take("a", (("db", 1),), GPUS, NOW)
    assert second.take("b", (("gpu", 2), ("db", 1)), GPUS, NOW) == "db"
    assert first.take("c", (("gpu", 2),), GPUS, NOW) is None


def test_what_is_given_back_can_be_taken_again(begin: Begin) -> None:
    first, second = begin("r1").shares, begin("r2").shares
    first.take("a", (("db", 1), ("gpu", 2)), GPUS, NOW)
    first.give_back("a")
    first.give_back("a")
    assert second.take("b", (("db", 1), ("gpu", 2)), GPUS, NOW) is None
    first.give_back("b")  # is another run's
    assert first.take("a", (("db", 1),), GPUS, NOW) == "db"


def test_runs_that_say_different_amounts_each_keep_to_their_own(begin: Begin) -> None:
    first, second = begin("r1").shares, begin("r2").shares
    first.take("a", (("gpu", 2),), GPUS, NOW)
    assert second.take("b", (("gpu", 1),), {"gpu": 1}, NOW) == "gpu"
    assert second.take("b", (("gpu", 1),), {"gpu": 3}, NOW) is None


def test_run_that_has_ended_holds_nothing(begin: Begin) -> None:
    first, second = begin("r1"), begin("r2")
    first.shares.take("a", (("db", 1),), GPUS, NOW)
    first.end("SUCCESS", {}, 0.0)
    assert second.shares.take("b", (("db", 1),), GPUS, NOW) is None


@pytest.mark.parametrize("death", ["its lock is free", "it has not beaten", "the machine was started anew"])
def test_run_that_is_dead_holds_nothing(begin: Begin, locked: set[str], death: str) -> None:
    first, second = begin("r1"), begin("r2")
    first.shares.take("a", (("db", 1),), GPUS, NOW)
    now = NOW
    if death == "its lock is free":
        locked.remove("r1")
    elif death == "it has not beaten":
        now = Moment("boot-1", NOW.monotonic_s + LEASE_S + 1)
    else:
        now = Moment("boot-2", 5.0)
    assert second.shares.take("b", (("db", 1),), GPUS, now) is None
    assert second.shares.take("c", (("db", 1),), GPUS, now) == "db"
