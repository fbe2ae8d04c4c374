"""Which values are shown: what was asked for, what is recorded, until now."""

from __future__ import annotations

import datetime
from datetime import date
from typing import Any

import pytest

from jubako.errors import InputError
from jubako.flow.explain.status_range import Ends, list_shown, parse_ends
from jubako.flow.parameters import DateHourParameter, DateParameter, MonthParameter, YearParameter

NOW = datetime.datetime(2010, 3, 14, 5, 6)
DAY, HOUR = DateParameter(), DateHourParameter()


def shown(parameter: Any, recorded: tuple[Any, Any] | None = None, **asked: str) -> tuple[Any, Any, int]:
    values = list_shown("T", parameter, parse_ends("T", parameter, **asked), recorded, NOW)
    return values[0], values[-1], len(values)


@pytest.mark.parametrize(
    ("parameter", "asked", "expected"),
    [
        (DAY, {"month": "2012-02"}, (date(2012, 2, 1), date(2012, 2, 29), 29)),
        (DAY, {"year": "2010"}, (date(2010, 1, 1), date(2010, 12, 31), 365)),
        (HOUR, {"month": "2010-02"}, (datetime.datetime(2010, 2, 1), datetime.datetime(2010, 2, 28, 23), 672)),
        (MonthParameter(), {"year": "2010"}, (date(2010, 1, 1), date(2010, 12, 1), 12)),
        (YearParameter(), {"year": "2010"}, (date(2010, 1, 1), date(2010, 1, 1), 1)),
        (DAY, {"start": "2010-03-01", "stop": "2010-03-03"}, (date(2010, 3, 1), date(2010, 3, 2), 2)),
        (DAY, {"start": "2010-03-10"}, (date(2010, 3, 10), date(2010, 3, 14), 5)),
        (HOUR, {"start": "2010-03-14T00"}, (datetime.datetime(2010, 3, 14), datetime.datetime(2010, 3, 14, 5), 6)),
        (DateParameter(interval=3), {"month": "2010-03"}, (date(2010, 3, 2), date(2010, 3, 29), 10)),
    ],
)
def test_range_asked_for_is_shown(parameter: Any, asked: dict[str, str], expected: tuple[Any, Any, int]) -> None:
    assert shown(parameter, **asked) == expected


def test_recorded_values_are_shown_where_nothing_was_said() -> None:
    recorded = (date(2010, 1, 2), date(2010, 1, 5))
    assert shown(DAY, recorded) == (*recorded, 4)
    assert shown(DAY, recorded, stop="2010-01-04") == (date(2010, 1, 2), date(2010, 1, 3), 2)


@pytest.mark.parametrize(
    ("parameter", "asked", "sentence"),
    [
        (DAY, {}, "nothing of T with these parameters is recorded"),
        (DAY, {"month": "2010"}, "--month '2010' can't be read"),
        (DAY, {"year": "x"}, "--year 'x' can't be read"),
        (DAY, {"start": "2010-03-02", "stop": "2010-03-02"}, "there is nothing"),
        (DAY, {"start": "2011-01-01"}, "no value of T's parameter"),
        (YearParameter(), {"month": "2010-03"}, "no value of T's parameter"),
        (HOUR, {"start": "1800-01-01T00", "stop": "2000-01-01T00"}, "more than 1,000,000 tasks"),
    ],
)
def test_range_that_shows_nothing_is_refused(parameter: Any, asked: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        shown(parameter, **asked)


def test_ends_are_empty_where_nothing_was_said() -> None:
    assert parse_ends("T", DAY) == Ends(None, None)
