"""How far schedules are: claimed once, kept over restarts, one scheduler at a time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from jubako.boxes.state import StateRoot, open_state_root
from jubako.errors import ConflictError, HostError
from jubako.flow.schedules.schedule_book import ScheduleBook, hold_schedules, open_schedule_book

RULE = "0 6 * * * UTC"


@pytest.fixture
def state(tmp_path: Path) -> StateRoot:
    return open_state_root(str(tmp_path / "state"))


def begin(state: StateRoot, name: str = "Daily", *, rule: str = RULE, now_s: int = 0, pipeline: str = "p") -> object:
    with open_schedule_book(state, pipeline, durability="relaxed") as book:
        return book.begin(name, rule, now_s)


def settle(state: StateRoot, moment_s: int, name: str = "Daily") -> bool:
    with open_schedule_book(state, "p", durability="relaxed") as book:
        return book.settle(name, moment_s)


def test_begin_of_a_new_schedule_is_settled_up_to_now(state: StateRoot) -> None:
    assert begin(state, now_s=1000) == (1000, False)


def test_begin_again_is_where_it_was(state: StateRoot) -> None:
    begin(state, now_s=1000)
    assert settle(state, 2000)
    assert begin(state, now_s=9000) == (2000, True)


def test_begin_under_another_rule_is_anew(state: StateRoot) -> None:
    begin(state, now_s=1000)
    assert begin(state, rule="0 7 * * * UTC", now_s=9000) == (9000, False)


def test_schedules_of_one_name_in_two_pipelines_are_two(state: StateRoot) -> None:
    begin(state, now_s=1000)
    assert begin(state, now_s=5000, pipeline="q") == (5000, False)


def test_settle_of_one_moment_by_two_processes_is_granted_to_one(state: StateRoot) -> None:
    begin(state, now_s=0)
    with (
        open_schedule_book(state, "p", durability="relaxed") as one,
        open_schedule_book(state, "p", durability="relaxed") as other,
    ):
        granted = [book.settle("Daily", moment_s) for moment_s in (60, 120) for book in (one, other)]
    assert granted == [True, False, True, False]


def test_settle_of_an_earlier_moment_is_refused_and_changes_nothing(state: StateRoot) -> None:
    begin(state, now_s=0)
    assert settle(state, 120)
    assert not settle(state, 60)
    assert begin(state) == (120, True)


def test_book_of_a_newer_jubako_is_refused(state: StateRoot) -> None:
    begin(state)
    connection = sqlite3.connect(state.ledger_path, isolation_level=None)
    connection.execute("UPDATE schema SET version = 99 WHERE part = 'schedules'")
    with pytest.raises(HostError, match="its schedules tables have version 99"):
        ScheduleBook(connection, "p")
    connection.close()


def test_hold_schedules_that_another_process_holds_names_it(
    state: StateRoot, in_child: Callable[[Callable[[], object]], object]
) -> None:
    def hold() -> str:
        try:
            with hold_schedules(state, "p"):
                return "held"
        except ConflictError as error:
            return error.message

    with hold_schedules(state, "p"), hold_schedules(state, "q"):
        assert in_child(hold) == f"the schedules of p are being run already, by process {os.getpid()}"
    assert in_child(hold) == "held"
