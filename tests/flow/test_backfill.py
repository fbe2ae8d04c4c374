"""Which dates a backfill wants, which are done, in which order the rest runs."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import InputError
from jubako.flow.backfill import (
    account_for,
    find_dated_parameter,
    format_spans,
    list_wanted,
    plan_backfill,
    values_between,
)
from jubako.flow.parameters import (
    DateHourParameter,
    DateParameter,
    InvalidParameterException,
    MonthParameter,
    Parameter,
    YearParameter,
)
from jubako.flow.result import RunResult
from jubako.flow.summary import Groups
from jubako.flow.task import Task

DAYS = st.dates(datetime.date(1990, 1, 1), datetime.date(2030, 12, 31))


class Daily(Task):
    date = DateParameter()
    city = Parameter(default="Oslo")


class Between(Task):
    start = DateParameter()
    stop = DateParameter()


class Undated(Task):
    city = Parameter()


def nothing_is_complete(tasks: Sequence[Task]) -> list[Task]:
    return []


def test_values_between_a_year_of_days_has_every_day_but_the_last() -> None:
    values = values_between("Daily", DateParameter(), "2010-01-01", "2011-01-01")
    assert len(values) == 365
    assert (values[0], values[-1]) == (datetime.date(2010, 1, 1), datetime.date(2010, 12, 31))


def test_values_between_inclusive_has_the_last_day_too() -> None:
    values = values_between("Daily", DateParameter(), "2010-01-30", "2010-02-01", inclusive=True)
    assert [str(value) for value in values] == ["2010-01-30", "2010-01-31", "2010-02-01"]


def test_values_between_thirty_thousand_hours_has_no_hidden_limit() -> None:
    assert len(values_between("Hourly", DateHourParameter(), "2010-01-01T00", "2013-06-04T00")) == 30_000


def test_values_between_months_and_years_counts_in_them() -> None:
    months = values_between("Monthly", MonthParameter(), "2010-11", "2011-02", inclusive=True)
    assert [f"{month:%Y-%m}" for month in months] == ["2010-11", "2010-12", "2011-01", "2011-02"]
    years = values_between("Yearly", YearParameter(), "2010", "2013")
    assert [year.year for year in years] == [2010, 2011, 2012]


def test_values_between_on_a_coarse_grid_starts_at_the_first_point_inside() -> None:
    weekly = DateParameter(interval=7, start=datetime.date(2010, 1, 4))
    values = values_between("Weekly", weekly, "2010-01-05", "2010-01-25", inclusive=True)
    assert [str(value) for value in values] == ["2010-01-11", "2010-01-18", "2010-01-25"]


def test_values_between_on_a_coarse_grid_with_no_point_inside_is_refused() -> None:
    with pytest.raises(InputError, match="lies between"):
        values_between("Weekly", DateParameter(interval=7), "2010-01-05", "2010-01-06")


def test_values_between_the_last_day_there_is_does_not_overflow() -> None:
    values = values_between("Daily", DateParameter(), "9999-12-30", "9999-12-31", inclusive=True)
    assert len(values) == 2


def test_values_between_to_before_from_is_refused_with_both_dates() -> None:
    with pytest.raises(InputError, match="--to 2010-01-01 is before --from 2010-02-01"):
        values_between("Daily", DateParameter(), "2010-02-01", "2010-01-01")


def test_values_between_equal_ends_explains_inclusive() -> None:
    with pytest.raises(InputError) as caught:
        values_between("Daily", DateParameter(), "2010-01-01", "2010-01-01")
    assert "--inclusive" in caught.value.hint


def test_values_between_a_date_that_is_none_names_the_option() -> None:
    with pytest.raises(InvalidParameterException, match="--from '2010-02-30'"):
        values_between("Daily", DateParameter(), "2010-02-30", "2010-03-01")


def test_find_dated_parameter_of_several_takes_the_one_not_given() -> None:
    assert find_dated_parameter(Daily)[0] == "date"
    assert find_dated_parameter(Between, given=["stop"])[0] == "start"


@pytest.mark.parametrize(
    ("family", "given_names", "words"),
    [
        (Undated, [], "no parameter for a date"),
        (Between, [], "--start, --stop"),
        (Daily, ["date"], "as well"),
    ],
)
def test_find_dated_parameter_without_exactly_one_is_refused(
    family: type[Task], given_names: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        find_dated_parameter(family, given=given_names)


def test_plan_backfill_leaves_out_what_is_complete_and_keeps_the_order() -> None:
    values = values_between("Daily", DateParameter(), "2010-01-01", "2010-01-06")
    asked: list[int] = []

    def find_complete(tasks: Sequence[Task]) -> list[Task]:
        asked.append(len(tasks))
        return [tasks[1], tasks[2]]

    wanted = list_wanted(Daily, "date", values, {"city": "Rome"})
    plan = plan_backfill(wanted, "date", find_complete=find_complete)

    assert asked == [5]
    assert len(plan.wanted) == 5
    assert plan.done_before == 2
    assert [(task.date.day, task.city) for task in plan.to_run] == [(1, "Rome"), (4, "Rome"), (5, "Rome")]  # type: ignore[attr-defined]
    assert plan.spans() == ["2010-01-01", "2010-01-04...2010-01-05"]


def test_plan_backfill_newest_first_says_so_and_shows_dates_forwards() -> None:
    values = values_between("Daily", DateParameter(), "2010-01-01", "2010-01-04")
    wanted = list_wanted(Daily, "date", values, {})
    plan = plan_backfill(wanted, "date", find_complete=nothing_is_complete, newest_first=True)
    assert plan.spans() == ["2010-01-01...2010-01-03"]
    assert plan.describe() == (
        "Daily 2010-01-01...2010-01-03: 3 wanted, 0 done before, 3 to run (2010-01-01...2010-01-03, newest first)"
    )


def test_account_for_a_run_counts_each_wanted_task_once() -> None:
    values = values_between("Daily", DateParameter(), "2010-01-01", "2010-01-06")
    plan = plan_backfill(list_wanted(Daily, "date", values, {}), "date", find_complete=nothing_is_complete)
    first, second, third, fourth, _ = plan.wanted
    groups = Groups(already_done=[first, Undated(city="Bonn")], completed=[second, third], failed=[fourth])
    account = account_for(plan, RunResult("r", "none", groups, everything_there=False))
    assert account.describe() == (
        "Daily 2010-01-01...2010-01-05: 5 wanted = 1 done before + 2 run + 1 failed + 1 not run"
    )


@given(st.sets(DAYS, max_size=60))
def test_format_spans_of_any_days_names_exactly_those_days(days: set[datetime.date]) -> None:
    named: list[datetime.date] = []
    for span in format_spans(DateParameter(), sorted(days)):
        first, _, last = span.partition("...")
        day, end = datetime.date.fromisoformat(first), datetime.date.fromisoformat(last or first)
        while day <= end:
            named.append(day)
            day += datetime.timedelta(days=1)
    assert named == sorted(days)


@given(DAYS, st.integers(1, 400))
def test_values_between_any_two_days_has_each_day_once(first: datetime.date, count: int) -> None:
    stop = first + datetime.timedelta(days=count)
    values = values_between("Daily", DateParameter(), str(first), str(stop))
    assert values == [first + datetime.timedelta(days=n) for n in range(count)]
