"""The table itself: what is in it is allowed, every other pair is refused, and no state is a dead end by accident."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from jubako.errors import BugError
from jubako.flow.engine.engine import Engine
from jubako.flow.engine.transitions import TERMINAL, TRANSITIONS, Cause, State, format_table

_ABSENT = sorted(set(itertools.product(State, Cause)) - set(TRANSITIONS))


@pytest.mark.parametrize(("state", "cause"), _ABSENT, ids=lambda value: value.name)
def test_move_absent_from_the_table_is_refused(state: State, cause: Cause) -> None:
    engine = Engine(slots=1)
    engine._node(0).state = state
    with pytest.raises(BugError, match=f"task 0 is {state.name}; {cause.name} is not allowed there"):
        engine._move(0, cause)
    assert engine.state(0) is state


@pytest.mark.parametrize(("state", "cause"), sorted(TRANSITIONS), ids=lambda value: value.name)
def test_move_in_the_table_leads_where_it_says(state: State, cause: Cause) -> None:
    engine = Engine(slots=1)
    engine._node(0).state = state
    engine._move(0, cause)
    assert engine.state(0) is TRANSITIONS[state, cause]


def test_every_state_but_new_can_be_reached() -> None:
    assert set(TRANSITIONS.values()) == set(State) - {State.NEW}


def test_terminal_states_are_those_a_task_can_end_in() -> None:
    assert {state.name for state in TERMINAL} == {
        "DONE", "COMPLETE", "MISSING", "UNSCHEDULED", "DENIED", "FAILED", "STUCK", "STOPPED",
    }  # fmt: skip


def test_docs_show_this_table_and_every_state() -> None:
    page = (Path(__file__).parents[3] / "docs/engine.md").read_text()
    assert format_table() in page
    for state in State:
        assert f"| {state.name} | " in page


def test_format_table_has_a_row_per_transition() -> None:
    rows = format_table().splitlines()[2:]
    assert len(rows) == len(TRANSITIONS)
    assert "| RUNNING | PUBLISHED | DONE |" in rows
