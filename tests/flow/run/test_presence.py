"""Being there, and what others have left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jubako.boxes.state import StateRoot, open_state_root
from jubako.flow.run.presence import has_remains, hold_presence, is_living


@pytest.fixture
def state(tmp_path: Path) -> StateRoot:
    return open_state_root(str(tmp_path / "state"))


def test_run_lives_while_it_is_held_and_leaves_nothing(state: StateRoot) -> None:
    assert not has_remains(state)
    with hold_presence(state, "run-1"):
        assert is_living(state, "run-1")
        assert has_remains(state)
    assert not is_living(state, "run-1")
    assert os.listdir(state.stage_path) == []


def test_run_whose_process_was_killed_does_not_live(state: StateRoot) -> None:
    pid = os.fork()
    if pid == 0:
        with hold_presence(state, "run-1"):
            os._exit(0)
    os.waitpid(pid, 0)
    assert has_remains(state)
    assert not is_living(state, "run-1")


def test_run_that_never_was_does_not_live(state: StateRoot) -> None:
    assert not is_living(state, "never")


def test_folder_that_somebody_removed_is_no_error(state: StateRoot) -> None:
    with hold_presence(state, "run-1"):
        os.unlink(os.path.join(state.stage_path, "run-1", "lock"))
        os.rmdir(os.path.join(state.stage_path, "run-1"))
