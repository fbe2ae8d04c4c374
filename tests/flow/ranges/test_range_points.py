"""Points in time as lazy sequences: the same as listing them one by one, however many there are."""

from __future__ import annotations

import datetime
import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.flow.ranges.range_points import MonthGrid, Points, StepGrid

TIMES = st.datetimes(datetime.datetime(1950, 1, 1), datetime.datetime(2050, 1, 1))
STEPS = st.sampled_from([datetime.timedelta(days=1), datetime.timedelta(hours=1), datetime.timedelta(minutes=20)])
EPOCH = datetime.datetime(1970, 1, 1)


@given(TIMES, st.timedeltas(datetime.timedelta(days=-2), datetime.timedelta(days=3)), STEPS)
def test_points_of_a_step_are_those_found_one_by_one(
    start: datetime.datetime, length: datetime.timedelta, step: datetime.timedelta
) -> None:
    slow, point = [], start - (start - EPOCH) % step
    while point < start + length:
        if point >= start:
            slow.append(point)
        point += step
    assert list(StepGrid(step).points(start, start + length)) == slow


@given(TIMES, st.timedeltas(datetime.timedelta(days=-99), datetime.timedelta(days=999)))
def test_months_are_those_that_begin_after_start_and_end_before_stop(
    start: datetime.datetime, length: datetime.timedelta
) -> None:
    stop = start + length
    first_of_stop = datetime.datetime(stop.year, stop.month, 1)
    days = (start.date() + datetime.timedelta(days=n) for n in range(max(0, length.days + 2)))
    firsts = (datetime.datetime(day.year, day.month, 1) for day in days if day.day == 1)
    assert list(MonthGrid().points(start, stop)) == [first for first in firsts if start <= first < first_of_stop]


def test_a_million_points_cost_nothing_and_can_be_sliced_and_searched() -> None:
    points = StepGrid(datetime.timedelta(minutes=1)).points(EPOCH, datetime.datetime(2030, 1, 1))
    assert len(points) == 31_557_600
    assert points[-1] == datetime.datetime(2029, 12, 31, 23, 59)
    assert isinstance(points[10:-10], Points)
    assert points[10:20][3] == datetime.datetime(1970, 1, 1, 0, 13)
    assert list(points[:3]) == [EPOCH + n * datetime.timedelta(minutes=1) for n in range(3)]
    assert all(b - a == datetime.timedelta(minutes=1) for a, b in pairwise(points[-5:]))
    assert pickle.loads(pickle.dumps(points))[5] == points[5]
    assert repr(points[:0]) == "Points()"
    assert repr(points[:2]) == "Points(1970-01-01 00:00:00 to 1970-01-01 00:01:00, 2 in all)"
    with pytest.raises(IndexError):
        points[len(points)]
