"""Dated tasks as intervals; an array of places, one status each, is the obvious reference."""

from __future__ import annotations

import datetime
import itertools
import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.boxes.transactions.database import ensure_schema
from jubako.flow.ledger.partitions import (
    Interval,
    Partition,
    PartitionStatus,
    find_partition,
    find_value,
    list_partitions,
    plan_overlay,
    set_partitions,
)
from jubako.flow.ledger.schema import MIGRATIONS
from jubako.flow.parameters import (
    DateHourParameter,
    DateMinuteParameter,
    DateParameter,
    DateSecondParameter,
    IntParameter,
    MonthParameter,
    Parameter,
    ParameterVisibility,
    YearParameter,
)
from jubako.flow.tasks.task import Task


def places(intervals: list[Interval]) -> dict[int, str]:
    return {place: i.status for i in intervals for place in range(i.first, i.after)}


_writes = st.lists(
    st.tuples(st.sets(st.integers(-5, 25), min_size=1), st.sampled_from(["done", "failed"])), max_size=12
)


@given(_writes)
def test_set_partitions_keeps_what_an_array_would(writes: list[tuple[set[int], PartitionStatus]]) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    ensure_schema(connection, "ledger", MIGRATIONS)
    expected: dict[int, str] = {}
    for members, status in writes:
        expected.update(dict.fromkeys(members, status))
        set_partitions(connection, 1, [Partition("T", "", "date", "day", place) for place in members], status)
    intervals = list_partitions(connection, 1, "T").get(("date", "day"), [])
    connection.close()
    assert places(intervals) == expected
    assert sum(i.after - i.first for i in intervals) == len(expected)
    for before, after in itertools.pairwise(intervals):
        assert before.after < after.first or (before.after == after.first and before.status != after.status)


def test_plan_overlay_inside_another_status_splits_it() -> None:
    old = [Interval(0, 10, "done")]
    assert plan_overlay(old, Interval(4, 5, "failed")) == [
        Interval(0, 4, "done"), Interval(4, 5, "failed"), Interval(5, 10, "done"),
    ]  # fmt: skip


def test_series_do_not_mix() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    ensure_schema(connection, "ledger", MIGRATIONS)
    set_partitions(connection, 1, [Partition("T", "city=a", "date", "day", 1)], "done")
    set_partitions(connection, 1, [Partition("T", "city=b", "date", "day", 2)], "done")
    set_partitions(connection, 2, [Partition("T", "city=a", "date", "day", 3)], "done")
    assert list_partitions(connection, 1, "T", fixed="city=a") == {("date", "day"): [Interval(1, 2, "done")]}
    connection.close()


class OfDay(Task):
    date = DateParameter()
    city = Parameter()
    note = Parameter(significant=False, default="")


class OfMonth(Task):
    month = MonthParameter()


class OfYear(Task):
    year = YearParameter()


class OfHour(Task):
    at = DateHourParameter()


class OfMinute(Task):
    at = DateMinuteParameter(interval=5)


class OfSecond(Task):
    at = DateSecondParameter()


class OfTwoDays(Task):
    first = DateParameter()
    last = DateParameter()


class OfNothing(Task):
    n = IntParameter()


_EVE = datetime.datetime(1969, 12, 31, 23, 55)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (OfDay(datetime.date(1970, 1, 2), "x"), Partition("OfDay", "city=x", "date", "day", 1)),
        (OfMonth(datetime.date(1971, 2, 1)), Partition("OfMonth", "", "month", "month", 13)),
        (OfYear(datetime.date(1968, 1, 1)), Partition("OfYear", "", "year", "year", -2)),
        (OfHour(datetime.datetime(1970, 1, 2, 1)), Partition("OfHour", "", "at", "hour", 25)),
        (OfMinute(_EVE), Partition("OfMinute", "", "at", "5 minute", -1)),
        (OfSecond(_EVE), Partition("OfSecond", "", "at", "second", -300)),
        (OfTwoDays(datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)), None),
        (OfNothing(3), None),
    ],
    ids=str,
)
def test_find_partition(task: Task, expected: Partition | None) -> None:
    assert find_partition(task) == expected


def test_concealed_values_stay_out_of_the_ledger() -> None:
    class Secret(Task):
        date = DateParameter()
        password = Parameter(visibility=ParameterVisibility.PRIVATE)

    assert find_partition(Secret(datetime.date(1970, 1, 1), "s3cret")) == Partition("Secret", "", "date", "day", 0)


def test_value_that_is_no_date_has_no_partition() -> None:
    class Optional(Task):
        at: Any = DateHourParameter(default=None)  # type: ignore[arg-type]  # as Luigi allows

    assert find_partition(Optional()) is None


def test_class_that_changed_is_looked_at_anew() -> None:
    class Changing(Task):
        date = DateParameter()

    assert find_partition(Changing(datetime.date(1970, 1, 1))) is not None
    Changing.second = DateParameter()  # type: ignore[attr-defined]  # what tests of pipelines do
    assert find_partition(Changing(datetime.date(1970, 1, 1), datetime.date(1970, 1, 1))) is None


@given(st.dates(datetime.date(1900, 1, 1), datetime.date(2200, 1, 1)))
def test_next_in_enumeration_is_the_next_place(date: datetime.date) -> None:
    for cls in (OfDay, OfMonth, OfYear):
        parameter = cls.get_params()[0][1]
        extra = ("x",) if cls is OfDay else ()
        here = cls(date, *extra)
        value = getattr(here, cls.get_params()[0][0])
        there = cls(parameter.next_in_enumeration(value), *extra)
        before, after = find_partition(here), find_partition(there)
        assert before is not None and after is not None
        assert after.place == before.place + 1


@pytest.mark.parametrize("kind", [YearParameter, MonthParameter, DateParameter])
@given(
    value=st.dates(datetime.date(1800, 1, 1), datetime.date(2200, 1, 1)),
    step=st.integers(1, 9),
    start=st.dates(datetime.date(1990, 1, 1), datetime.date(1995, 1, 1)),
)
def test_place_leads_back_to_its_date(kind: Any, value: datetime.date, step: int, start: datetime.date) -> None:
    class Dated(Task):
        when = kind(interval=step, start=start)

    task = Dated(when=value)
    found = find_partition(task)
    assert found is not None
    assert find_value(Dated.when, found.unit, found.place) == task.when


@pytest.mark.parametrize("kind", [DateHourParameter, DateMinuteParameter, DateSecondParameter])
@given(value=st.datetimes(datetime.datetime(1800, 1, 1), datetime.datetime(2200, 1, 1)), step=st.integers(1, 9))
def test_place_leads_back_to_its_time(kind: Any, value: datetime.datetime, step: int) -> None:
    class Dated(Task):
        when = kind(interval=step)

    task = Dated(when=value)
    found = find_partition(task)
    assert found is not None
    assert find_value(Dated.when, found.unit, found.place) == task.when
