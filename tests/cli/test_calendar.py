"""Calendars as text."""

from __future__ import annotations

import datetime
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.cli.calendar import MARKS, draw_calendar
from jubako.flow.explain.status import STATES, State


def days(first: date, count: int) -> list[date]:
    return [first + timedelta(days=number) for number in range(count)]


def drawn(values: list[Any], states: list[State], unit: str, width: int = 80) -> str:
    return "\n".join(draw_calendar(values, states, unit, width=width).lines)


def test_days_are_months_of_weeks_side_by_side() -> None:
    states: list[State] = ["done"] * 27 + ["failed", "missing", "gone"]
    assert drawn(days(date(2010, 3, 3), 30), states, "day") == (
        "2010-03              2010-04\n"
        "    M T W T F S S        M T W T F S S\n"
        " 1      # # # # #     1        ?\n"
        " 8  # # # # # # #     5\n"
        "15  # # # # # # #    12\n"
        "22  # # # # # # #    19\n"
        "29  # X .            26"
    )


def test_hours_are_days_of_24() -> None:
    hours = [datetime.datetime(2010, 3, 14, 22) + timedelta(hours=number) for number in range(4)]
    assert drawn(hours, ["done", "running", "unrecorded", "owed"], "hour") == (
        "            0       6       12      18\n2010-03-14                              #>\n2010-03-15  +o"
    )


def test_months_are_years_of_12() -> None:
    assert drawn([date(2009, 12, 1), date(2010, 1, 1)], ["broken", "disabled"], "month") == (
        "      J F M A M J  J A S O N D\n2009                         !\n2010  -"
    )


def test_years_minutes_and_seconds_have_rows_of_their_own() -> None:
    assert drawn([date(1999, 1, 1), date(2000, 1, 1)], ["done", "missing"], "year").splitlines()[1:] == [
        "1990                     #",
        "2000  .",
    ]
    minute = datetime.datetime(2010, 3, 14, 5, 16)
    assert drawn([minute], ["done"], "minute").splitlines()[1].split() == ["2010-03-14T05", "#"]
    assert drawn([minute], ["done"], "second").splitlines()[1].split() == ["2010-03-14T0516", "#"]


def test_too_many_cells_are_drawn_coarser_and_as_bad_as_the_worst() -> None:
    hours = [datetime.datetime(2010, 1, 1) + timedelta(hours=number) for number in range(100 * 24)]
    states: list[State] = ["done"] * len(hours)
    states[30] = "failed"
    states[31] = "missing"
    drawing = draw_calendar(hours, states, "hour", width=80)
    assert drawing.unit == "day"
    assert drawing.lines[2].startswith(" 1          # X #")
    days_of_20_years = days(date(2000, 1, 1), 20 * 365)
    assert draw_calendar(days_of_20_years, ["done"] * len(days_of_20_years), "day", width=80).unit == "month"


@pytest.mark.parametrize(("unit", "step"), [("day", timedelta(days=1)), ("hour", timedelta(hours=1))])
@given(width=st.integers(1, 200), states=st.lists(st.sampled_from(STATES), min_size=1, max_size=200))
def test_every_cell_is_drawn_once_at_any_width(unit: str, step: timedelta, width: int, states: list[State]) -> None:
    start: Any = date(2010, 1, 30) if unit == "day" else datetime.datetime(2010, 1, 30, 7)
    values = [start + number * step for number in range(len(states))]
    lines = draw_calendar(values, states, unit, width=width, paint=lambda state: chr(0x100 + STATES.index(state))).lines
    drawn_marks = sorted(c for line in lines for c in line if ord(c) >= 0x100)
    assert drawn_marks == sorted(chr(0x100 + STATES.index(state)) for state in states)
    assert max(map(len, lines)) <= max(width, 25)


def test_each_state_has_a_letter_of_its_own() -> None:
    assert set(MARKS) == set(STATES)
    assert len(set(MARKS.values())) == len(STATES)


def test_calendar_of_the_last_days_there_are() -> None:
    assert drawn([date.max], ["done"], "day").splitlines()[-1] == "27          #"
