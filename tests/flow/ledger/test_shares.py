"""What runs share of resources: each run has a connection of its own, as processes would."""

from __future__ import annotations

import pytest

from jubako.flow.clock import Moment
from jubako.flow.ledger.lease import LEASE_S

from .conftest import NOW, Begin

GPUS = {"gpu": 2, "db": 1}


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
