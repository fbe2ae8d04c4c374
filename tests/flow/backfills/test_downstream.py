"""What depends on a range of dates, found by asking candidates what they require."""

from __future__ import annotations

import datetime
from typing import Any

from jubako.flow.backfills.backfill import Wanted
from jubako.flow.backfills.downstream import find_downstream
from jubako.flow.parameters import DateHourParameter, DateParameter, MonthParameter, Parameter, YearParameter
from jubako.flow.tasks.task import Task


class Day(Task):
    date = DateParameter()
    city = Parameter(default="Oslo")


class Month(Task):
    month = MonthParameter()
    city = Parameter(default="Oslo")

    def requires(self) -> Any:
        return [Day(date=self.month + datetime.timedelta(days=n), city=self.city) for n in range(28)]


class Year(Task):
    year = YearParameter()
    city = Parameter(default="Oslo")

    def requires(self) -> Any:
        return [Month(month=self.year.replace(month=n), city=self.city) for n in range(1, 13)]


class Hour(Task):
    hour = DateHourParameter()

    def requires(self) -> Any:
        return Day(date=self.hour.date()) if self.hour.hour == 6 else []


class Through(Task):
    """Can be reached only through what requires it: it has a parameter nobody knows."""

    date = DateParameter()
    key = Parameter()

    def requires(self) -> Any:
        return Day(date=self.date)


class Page(Task):
    def requires(self) -> Any:
        return Through(date=datetime.date(2010, 3, 30), key="x")


class Unrelated(Task):
    date = DateParameter()


class Between(Task):
    start = DateParameter()
    stop = DateParameter()

    def requires(self) -> Any:
        return Day(date=self.start)


class Given(Task):
    """Requires nothing, so nobody need know its key."""

    key = Parameter()


class Raising(Task):
    def requires(self) -> Any:
        raise ConnectionError("no route to host")


def wanted(first: datetime.date, count: int, **others: Any) -> Wanted:
    return Wanted(Day, "date", [first + datetime.timedelta(days=n) for n in range(count)], others)


MARCH_30 = datetime.date(2010, 3, 30)


def found(*classes: Any, city: str = "Oslo") -> list[str]:
    return sorted(map(str, find_downstream(wanted(MARCH_30, 3, city=city), [Day, *classes]).tasks))


def test_coarser_and_finer_dates_that_touch_the_range_are_found() -> None:
    assert found(Month, Year) == ["Month(month=2010-04, city=Oslo)", "Year(year=2010, city=Oslo)"]  # 28 days a month
    assert found(Hour) == [f"Hour(hour={day}T06)" for day in ("2010-03-30", "2010-03-31", "2010-04-01")]


def test_other_parameters_are_taken_over() -> None:
    assert found(Month, city="Rome") == ["Month(month=2010-04, city=Rome)"]
    assert found(Page, city="Rome") == []


def test_what_lies_in_between_is_found_too_and_what_cannot_be_made_is_said() -> None:
    downstream = find_downstream(wanted(MARCH_30, 3), [Day, Given, Through, Page, Unrelated, Between, Raising])
    assert sorted(map(str, downstream.tasks)) == ["Page()", "Through(date=2010-03-30, key=x)"]
    through, between, raising = downstream.left_out
    assert through.startswith("Through is not looked at: ")
    assert "key" in through
    assert between.startswith("Between is not looked at: Between has several parameters for a date")
    assert raising == "Raising() cannot be asked what it requires: requires() raised ConnectionError: no route to host"
