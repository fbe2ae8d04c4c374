"""What may be wanted of a run from outside, and of which."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from jubako.boxes.state import StateRoot, open_state_root
from jubako.boxes.transactions.database import open_database
from jubako.errors import InputError
from jubako.flow.ledger.history import open_history
from jubako.flow.ledger.ledger import Ledger, LedgerRun
from jubako.flow.ledger.steering import steer_run
from jubako.flow.run.presence import hold_presence
from jubako.testing.ledger import begin_fake_run


@pytest.fixture
def state(tmp_path: Path) -> StateRoot:
    return open_state_root(str(tmp_path / "state"))


@contextmanager
def a_run(state: StateRoot) -> Iterator[LedgerRun]:
    with closing(open_database(state.ledger_path, durability="relaxed")) as connection:
        yield begin_fake_run(Ledger(connection), "run-1")


def test_wish_reaches_a_living_run_and_shows_in_its_outcome(state: StateRoot) -> None:
    with a_run(state) as run, hold_presence(state, "run-1"):
        assert run.read_wish() == ""
        assert steer_run(state.path, "run-", "pause").outcome == "running"
        assert run.read_wish() == "pause"
        with open_history(state.path) as history:
            found = history.get_run("run-1")
        assert (found.outcome, found.has_failed) == ("paused", False)
        assert steer_run(state.path, "run-1", "resume").outcome == "paused"
        assert run.read_wish() == ""
        steer_run(state.path, "run-1", "cancel")
        assert run.read_wish() == "cancel"
        with pytest.raises(InputError, match="run run-1 is being cancelled"):
            steer_run(state.path, "run-1", "resume")


@pytest.mark.parametrize("has_ended", [True, False])
def test_run_that_is_over_or_was_killed_cannot_be_steered(state: StateRoot, has_ended: bool) -> None:
    with a_run(state) as run:
        if has_ended:
            run.end("SUCCESS", {}, 1.0)
        with pytest.raises(InputError, match="run run-1 is over"):
            steer_run(state.path, "run-1", "pause")
        assert run.read_wish() == ""


def test_unknown_run_cannot_be_steered(state: StateRoot) -> None:
    with a_run(state), pytest.raises(InputError, match="there is no run x"):
        steer_run(state.path, "x", "pause")
