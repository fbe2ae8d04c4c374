"""What `@schedule` notes, for which dates tasks are made, and what it refuses."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import InputError
from jubako.flow.loader import Pipeline, load_pipeline
from jubako.flow.parameters import (
    DateHourParameter,
    DateMinuteParameter,
    DateParameter,
    IntParameter,
    MonthParameter,
    Parameter,
    YearParameter,
)
from jubako.flow.schedules.schedule import Schedule, find_schedules, get_schedule, schedule
from jubako.flow.tasks.task import Task

WEEKLY = DateParameter(interval=7, start=datetime.date(2026, 3, 2))
PIPELINE = '''
import datetime
from jubako import DateParameter, Task, schedule

@schedule("0 6 * * *", timezone="Asia/Tokyo", catch_up="all", overlap="skip")
class Daily(Task):
    date = DateParameter()

class Weekly(Daily):
    """Inherits nothing of the schedule."""

Same = Daily

@schedule("0 7 * * MON", name="mondays")
@schedule("0 8 * * FRI", name="fridays")
def reports(moment):
    return [Daily(date=moment.date()), [Weekly(date=moment.date())]]
'''


def load(folder: Path, text: str, name: str) -> Pipeline:
    (folder / f"{name}.py").write_text(text)
    return load_pipeline(str(folder / f"{name}.py"))


def only(scheduled: Any) -> Schedule:
    """The one schedule that was noted."""
    (found,) = vars(scheduled)["_jubako_schedules"]
    assert isinstance(found, Schedule)
    return found


def dated(parameter: Parameter[Any]) -> type[Task]:
    return type("Dated", (Task,), {"when": parameter})


def seconds(text: str) -> int:
    return int(datetime.datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize(
    ("parameter", "moment", "previous", "current"),
    [
        (DateParameter(), "2026-03-01T05:00+00:00", "2026-02-28", "2026-03-01"),
        (DateParameter(), "2026-02-28T16:00+00:00", "2026-02-28", "2026-03-01"),  # March in Tokyo
        (
            WEEKLY,
            "2026-03-09T05:00+00:00",
            "2026-03-02",
            "2026-03-09",
        ),
        (
            WEEKLY,
            "2026-03-12T05:00+00:00",
            "2026-03-02",
            "2026-03-09",
        ),
        (MonthParameter(), "2026-01-01T05:00+00:00", "2025-12", "2026-01"),
        (YearParameter(), "2026-01-01T05:00+00:00", "2025", "2026"),
        (DateHourParameter(), "2026-03-01T00:05+00:00", "2026-02-28T23", "2026-03-01T00"),
        (DateHourParameter(interval=6), "2026-03-01T13:05+00:00", "2026-03-01T06", "2026-03-01T12"),
        (DateMinuteParameter(), "2026-03-01T00:05+00:00", "2026-03-01T0004", "2026-03-01T0005"),
    ],
)
def test_tasks_of_a_firing_are_of_the_interval_before_it_or_its_own(
    parameter: Parameter[Any], moment: str, previous: str, current: str
) -> None:
    for which, expected in (("previous", previous), ("current", current)):
        noted = schedule("* * * * *", timezone="Asia/Tokyo", date=which)(dated(parameter))  # type: ignore[arg-type]
        (task,) = only(noted).tasks(seconds(moment))
        assert task.to_str_params() == {"when": expected}


def test_tasks_of_an_hour_that_comes_twice_are_two() -> None:
    noted = schedule("5 * * * *", timezone="Europe/Berlin")(dated(DateHourParameter()))
    rule = only(noted).rule
    moments = rule.between(seconds("2026-10-25T00:00Z"), seconds("2026-10-25T02:00Z"))
    assert [str(only(noted).tasks(moment)[0].when) for moment in moments] == [  # type: ignore[attr-defined]
        "2026-10-24 23:00:00",
        "2026-10-25 00:00:00",
    ]


def test_tasks_since_a_date_are_all_up_to_the_firing() -> None:
    noted = schedule("0 6 * * *", since="2026-02-27")(dated(DateParameter()))
    tasks = only(noted).tasks(seconds("2026-03-02T06:00Z"))
    assert [task.to_str_params()["when"] for task in tasks] == ["2026-02-27", "2026-02-28", "2026-03-01"]
    assert only(noted).tasks(seconds("2026-02-27T06:00Z")) == []


def test_tasks_of_a_class_without_a_date_are_one() -> None:
    family = type("Undated", (Task,), {"size": IntParameter(default=3)})
    (task,) = only(schedule("0 6 * * *")(family)).tasks(0)
    assert isinstance(task, family)


def test_tasks_of_several_dates_fill_the_one_without_a_default() -> None:
    first = DateParameter(default=datetime.date(2000, 1, 1))
    family = type("Two", (Task,), {"first": first, "last": DateParameter()})
    (task,) = only(schedule("0 6 * * *")(family)).tasks(seconds("2026-03-02T06:00Z"))
    assert task.to_str_params() == {"first": "2000-01-01", "last": "2026-03-01"}


def test_tasks_by_a_function_are_those_it_returns_for_the_moment_in_its_zone() -> None:
    moments = []
    family = dated(DateParameter())

    @schedule("0 6 * * *", timezone="Asia/Tokyo")
    def mornings(moment: datetime.datetime) -> Task:
        moments.append(moment)
        return family(when=moment.date())

    (task,) = only(mornings).tasks(seconds("2026-03-01T21:00Z"))
    assert task.to_str_params() == {"when": "2026-03-02"}
    assert str(moments[0]) == "2026-03-02 06:00:00+09:00"


def test_tasks_by_a_function_that_fails_are_an_input_error_with_its_moment() -> None:
    @schedule("0 6 * * *", timezone="Asia/Tokyo")
    def broken(moment: datetime.datetime) -> Task:
        raise ZeroDivisionError("division by zero")

    with pytest.raises(InputError) as caught:
        only(broken).tasks(seconds("2026-03-01T21:00Z"))
    assert str(caught.value) == (
        "broken: making the tasks of 2026-03-02 06:00 JST failed: ZeroDivisionError: division by zero"
    )


def test_tasks_by_a_function_that_returns_something_else_are_refused() -> None:
    @schedule("0 6 * * *")
    def wrong(moment: datetime.datetime) -> list[str]:
        return ["Daily"]

    with pytest.raises(InputError, match="wrong returned 'Daily', which is no task"):
        only(wrong).tasks(0)


class NeedsCity(Task):
    date = DateParameter()
    city = Parameter()


class Between(Task):
    start = DateParameter()
    stop = DateParameter()


class Plain(Task):
    pass


@pytest.mark.parametrize(
    ("options", "scheduled", "words"),
    [
        ({"cron": "0 0 30 2 *"}, Plain, "the cron '0 0 30 2 *' never comes true"),
        ({"cron": Plain}, Plain, "Plain'> of a schedule is no text"),
        ({"timezone": "Asia/Tokio"}, Plain, "there is no time zone 'Asia/Tokio'"),
        ({"catch_up": "some"}, Plain, "catch_up='some' of a schedule is none of latest, all, none"),
        ({"overlap": "wait"}, Plain, "overlap='wait' of a schedule is none of queue, skip, allow"),
        ({"date": "next"}, Plain, "date='next'"),
        ({}, NeedsCity, "the schedule of NeedsCity can't know its city"),
        ({}, Between, "Between has several parameters for a date, start and stop"),
        ({"since": "2026-01-01"}, Plain, "Plain has no parameter for a date"),
        ({"since": "2026-02-30"}, dated(DateParameter()), "2026-02-30"),
        ({"since": "2026-01-01"}, print, "since= and date= are for task classes"),
        ({}, int, "int is no task"),
    ],
)
def test_schedule_that_makes_no_sense_is_refused_where_it_is_written(
    options: dict[str, Any], scheduled: Any, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        schedule(**{"cron": "0 6 * * *", **options})(scheduled)
    assert words in str(caught.value)


def test_find_schedules_has_each_once_by_its_name(tmp_path: Path) -> None:
    pipeline = load(tmp_path, PIPELINE, "schedules_each_once")
    found = find_schedules(pipeline)
    assert list(found) == ["Daily", "mondays", "fridays"]
    daily = found["Daily"]
    assert (daily.rule.text, daily.catch_up, daily.overlap) == ("0 6 * * * Asia/Tokyo", "all", "skip")
    assert [str(task) for task in found["fridays"].tasks(seconds("2026-03-06T08:00Z"))] == [
        "Daily(date=2026-03-06)",
        "Weekly(date=2026-03-06)",
    ]


def test_find_schedules_of_one_name_twice_is_refused(tmp_path: Path) -> None:
    text = PIPELINE.replace('"mondays"', '"fridays"')
    with pytest.raises(InputError, match="has two schedules called fridays"):
        find_schedules(load(tmp_path, text, "schedules_of_one_name"))


def test_get_schedule_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    pipeline = load(tmp_path, PIPELINE, "schedules_to_get")
    assert get_schedule(pipeline, "Daily").name == "Daily"
    with pytest.raises(InputError, match="there is no schedule 'daily'") as caught:
        get_schedule(pipeline, "daily")
    assert caught.value.hint == "it has Daily, mondays, fridays"


def test_pipeline_with_a_wrong_schedule_does_not_load_and_names_the_line(tmp_path: Path) -> None:
    text = PIPELINE.replace("Asia/Tokyo", "Asia/Tokio")
    with pytest.raises(InputError) as caught:
        load(tmp_path, text, "schedules_wrong")
    assert str(caught.value) == (
        f"{tmp_path}/schedules_wrong.py:5: importing the pipeline failed: there is no time zone 'Asia/Tokio'"
    )
    assert "Asia/Tokyo" in caught.value.hint
