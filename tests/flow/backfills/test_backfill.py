"""Which dates a backfill wants, which are done, in which order the rest runs."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.errors import InputError
from jubako.flow.backfills.backfill import (
    Wanted,
    account_for,
    find_dated_parameter,
    format_spans,
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
from jubako.flow.tasks.register import Register
from jubako.flow.tasks.task import Task

DAYS = st.dates(datetime.date(1990, 1, 1), datetime.date(2030, 12, 31))


@pytest.fixture(autouse=True)
def without_earlier_tasks() -> Iterator[None]:
    Register.clear_instance_cache()
    yield
    Register.clear_instance_cache()


class Daily(Task):
    date = DateParameter()
    city = Parameter(default="Oslo")


class Between(Task):
    start = DateParameter()
    stop = DateParameter()


class Undated(Task):
    city = Parameter()


def nothing_is_complete(tasks: Sequence[Task]) -> list[bool]:
    return [False] * len(tasks)


def days(start: str, stop: str, **others: object) -> Wanted:
    return Wanted(Daily, "date", values_between("Daily", DateParameter(), start, stop), others)


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
    asked: list[list[tuple[int, str]]] = []

    def are_complete(tasks: Sequence[Any]) -> list[bool]:
        asked.append([(task.date.day, task.city) for task in tasks])
        return [task.date.day in (2, 3) for task in tasks]

    plan = plan_backfill(days("2010-01-01", "2010-01-06", city="Rome"), are_complete=are_complete)

    assert asked == [[(day, "Rome") for day in range(1, 6)]]
    assert plan.done_before == 2
    assert [value.day for value in plan.to_run] == [1, 4, 5]
    assert plan.spans() == ["2010-01-01", "2010-01-04...2010-01-05"]


def test_plan_backfill_of_many_dates_asks_some_at_a_time_and_keeps_no_task() -> None:
    kept = Daily(date=datetime.date(1950, 1, 1))
    asked: list[int] = []
    most = 0

    def are_complete(tasks: Sequence[Task]) -> list[bool]:
        nonlocal most
        asked.append(len(tasks))
        most = max(most, count_tasks())
        return [task == kept for task in tasks]

    plan = plan_backfill(days("1950-01-01", "2009-01-01"), are_complete=are_complete)

    assert (sum(asked), len(asked)) == (21_550, 5)
    assert plan.done_before == 1
    assert most <= 2
    assert count_tasks() == 1
    assert Daily(date=datetime.date(1950, 1, 1)) is kept


def count_tasks() -> int:
    assert Register._instances is not None
    return len(Register._instances.get(Daily, {}))


def test_plan_backfill_newest_first_says_so_and_shows_dates_forwards() -> None:
    wanted = days("2010-01-01", "2010-01-04")
    plan = plan_backfill(wanted, are_complete=nothing_is_complete, newest_first=True)
    assert plan.spans() == ["2010-01-01...2010-01-03"]
    assert plan.describe() == (
        "Daily 2010-01-01...2010-01-03: 3 wanted, 0 done before, 3 to run (2010-01-01...2010-01-03, newest first)"
    )


def is_day(*numbers: int) -> Any:
    """Answers for tasks: is its date one of these days of the month?"""
    return lambda tasks: [task.date.day in numbers for task in tasks]


def test_plan_backfill_of_what_failed_asks_about_the_missing_only_and_counts_what_it_leaves() -> None:
    asked: list[int] = []

    def have_failed(tasks: Sequence[Any]) -> list[bool]:
        asked.extend(task.date.day for task in tasks)
        return [task.date.day in (1, 4) for task in tasks]

    plan = plan_backfill(days("2010-01-01", "2010-01-06"), are_complete=is_day(1, 2), have_failed=have_failed)

    assert asked == [3, 4, 5]
    assert (plan.done_before, [value.day for value in plan.to_run]) == (2, [4])
    assert [value.day for value in plan.not_asked] == [3, 5]
    assert plan.describe() == (
        "Daily 2010-01-01...2010-01-05: 5 wanted, 2 done before, 1 to run (2010-01-04), 2 missing and not asked for"
    )


def test_plan_backfill_of_what_is_done_too_asks_nobody() -> None:
    def are_complete(tasks: Sequence[Task]) -> list[bool]:
        raise AssertionError(tasks)

    plan = plan_backfill(days("2010-01-01", "2010-01-06"), are_complete=are_complete, redo_done=True, limit=4)
    assert [value.day for value in plan.to_run] == [1, 2, 3, 4]
    assert (plan.done_before, [value.day for value in plan.over_limit]) == (0, [5])


@given(
    done=st.sets(st.integers(1, 9)),
    failed=st.sets(st.integers(1, 9)),
    limit=st.integers(1, 10),
    newest_first=st.booleans(),
)
def test_plan_backfill_of_any_range_adds_up_and_keeps_to_its_limit(
    done: set[int], failed: set[int], limit: int, newest_first: bool
) -> None:
    plan = plan_backfill(
        days("2010-01-01", "2010-01-10"),
        are_complete=is_day(*done),
        have_failed=is_day(*failed),
        limit=limit,
        newest_first=newest_first,
    )
    chosen = sorted(failed - done)
    assert [value.day for value in plan.to_run] == (chosen[-limit:] if newest_first else chosen[:limit])
    assert sorted([*plan.to_run, *plan.over_limit]) == [datetime.date(2010, 1, day) for day in chosen]
    assert {value.day for value in plan.not_asked} == set(range(1, 10)) - done - failed
    assert plan.done_before == len(done)
    account = account_for(plan, RunResult("r", "none", Groups(), everything_there=False))
    assert (account.done_before, account.not_run) == (len(done), len(plan.to_run))
    assert (account.over_limit, account.not_asked) == (len(plan.over_limit), len(plan.not_asked))


def test_value_of_a_task_is_its_date_if_it_is_one_of_the_range() -> None:
    wanted = days("2010-01-01", "2010-01-04", city="Rome")
    second = datetime.date(2010, 1, 2)
    assert wanted.value_of(Daily(date=second, city="Rome")) == second
    for other in (
        Daily(date=second),
        Daily(date=datetime.date(2010, 1, 4), city="Rome"),
        Daily(date=datetime.date(2009, 12, 31), city="Rome"),
        Between(start=second, stop=second),
    ):
        assert wanted.value_of(other) is None


def test_account_for_a_run_counts_what_it_met_for_what_the_run_says() -> None:
    plan = plan_backfill(days("2010-01-01", "2010-01-06"), are_complete=is_day(1), limit=2)
    _, second, third, fourth, _ = plan.wanted.tasks()
    groups = Groups(already_done=[second], completed=[fourth], scheduling_error=[third])
    account = account_for(plan, RunResult("r", "none", groups, everything_there=False))
    assert account.describe() == (
        "Daily 2010-01-01...2010-01-05: 5 wanted = 2 done before + 1 run + 1 over the limit + 1 failed"
    )


def test_account_for_a_run_counts_each_wanted_task_once() -> None:
    plan = plan_backfill(days("2010-01-01", "2010-01-06"), are_complete=nothing_is_complete)
    first, second, third, fourth, _ = plan.wanted.tasks()
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
