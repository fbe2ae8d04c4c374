"""Ranges: the documented sessions, what they leave out, and what they say about themselves."""

from __future__ import annotations

import datetime
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from jubako.flow.parameters import (
    DateHourParameter,
    DateMinuteParameter,
    DateParameter,
    IntParameter,
    MonthParameter,
    Parameter,
    ParameterException,
)
from jubako.flow.ranges import range as ranges
from jubako.flow.ranges.range import RangeByMinutes, RangeDaily, RangeDailyBase, RangeEvent, RangeHourly, RangeMonthly
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.tasks.bulk import MixinNaiveBulkComplete
from jubako.flow.tasks.register import Register
from jubako.flow.tasks.task import Task, WrapperTask

NOW = 1632052800  # 2021-09-19 12:00 UTC
DAY = datetime.timedelta(days=1)


def day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


class MyDailyTask(Task):
    date = DateParameter()

    def output(self) -> Any:
        return LocalTarget(f"luigi-{self.date}")


class MyMonthlyTask(Task):
    date = MonthParameter()

    def output(self) -> Any:
        return LocalTarget(f"luigi-{self.date:%Y-%m}")


class MyHourlyTask(Task):
    date = DateHourParameter()

    def output(self) -> Any:
        return LocalTarget(f"luigi-{self.date:%Y-%m-%dT%H}")


class MyMinuteTask(Task):
    date = DateMinuteParameter()

    def output(self) -> Any:
        return LocalTarget(f"luigi-{self.date:%Y-%m-%dT%H%M}")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(range_task: Any) -> list[Any]:
    """What running the range does: its tasks write their files. Returns them."""
    required = list(range_task.requires())
    for task in required:
        Path(task.output().path).touch()
    Register.clear_instance_cache()  # as a new process
    return required


def spans(tasks: list[Any]) -> list[str]:
    return [str(tasks[0].date), str(tasks[-1].date)] if tasks else []


# --- the sessions


def test_daily_range_session_runs_what_is_missing_and_says_what_it_left_out(here: Path) -> None:
    def daily(start: str = "2021-01-01", **options: Any) -> RangeDaily:
        return RangeDaily(of=MyDailyTask, start=day(start), now=NOW, **options)

    Path("luigi-2021-09-01").touch()
    first = daily("2021-09-01")
    assert (len(first.requires()), spans(first.requires())) == (18, ["2021-09-02", "2021-09-19"])
    assert (first.account().wanted, first.account().done_before, first.account().is_whole) == (19, 1, True)
    assert not first.complete()
    run(first)

    again = daily("2021-09-01")
    assert (again.requires(), again.complete(), again.account().done_before) == ([], True, 19)

    far = daily()
    assert (len(far.requires()), spans(far.requires())) == (50, ["2021-06-12", "2021-07-31"])
    plan = far.account()
    assert (plan.wanted, plan.done_before, plan.selected, plan.outside_window, plan.over_limit) == (
        262,
        19,
        50,
        162,
        31,
    )
    assert plan.settings == (("days_back", 100), ("days_forward", 0), ("task_limit", 50))
    assert (plan.before_window[0], plan.before_window[-1]) == (
        datetime.datetime(2021, 1, 1),
        datetime.datetime(2021, 6, 11),
    )
    assert plan.left_by_limit[0] == datetime.datetime(2021, 8, 1)
    assert not plan.is_whole
    run(far)

    wide = daily(days_back=365)
    assert spans(run(wide)) == ["2021-01-01", "2021-02-19"]
    assert (wide.account().outside_window, wide.account().over_limit) == (0, 143)

    rest = daily(days_back=365, task_limit=365)
    assert len(run(rest)) == 143
    assert (rest.requires()[0].date, rest.account().is_whole) == (day("2021-02-20"), True)
    assert len(os.listdir(here)) == 262

    for date in ("2021-03-03", "2021-05-05", "2021-05-06"):
        os.remove(f"luigi-{date}")
    holes = run(daily(days_back=365, task_limit=365))
    assert [str(task.date) for task in holes] == ["2021-03-03", "2021-05-05", "2021-05-06"]
    assert len(os.listdir(here)) == 262

    for name in os.listdir(here):
        os.remove(name)
    assert spans(run(daily("2021-09-01"))) == ["2021-09-01", "2021-09-19"]
    assert len(os.listdir(here)) == 19


def test_monthly_range_leaves_this_month_out() -> None:
    months = RangeMonthly(of=MyMonthlyTask, start=day("2021-01-01"), now=NOW)
    assert (len(months.requires()), spans(months.requires())) == (8, ["2021-01-01", "2021-08-01"])
    assert months.account().wanted == 8


def test_hourly_range_leaves_stop_out() -> None:
    hours = RangeHourly(
        of=MyHourlyTask, start=datetime.datetime(2021, 9, 15), stop=datetime.datetime(2021, 9, 16, 12), now=NOW
    )
    assert len(hours.requires()) == 36
    assert spans(hours.requires()) == ["2021-09-15 00:00:00", "2021-09-16 11:00:00"]


def test_range_by_minutes_follows_its_interval() -> None:
    quarters = RangeByMinutes(
        of=MyMinuteTask, start=datetime.datetime(2021, 9, 19, 10, 7), minutes_interval=15, now=NOW
    )
    assert [f"{task.date:%H%M}" for task in quarters.requires()] == [
        *["1015", "1030", "1045", "1100", "1115", "1130", "1145"]
    ]


@pytest.mark.parametrize(("interval", "words"), [(0, "within 0..60"), (60, "within 0..60"), (7, "evenly divide 60")])
def test_interval_that_does_not_divide_an_hour_is_refused(interval: int, words: str) -> None:
    task = RangeByMinutes(of=MyMinuteTask, start=datetime.datetime(2021, 9, 19), minutes_interval=interval, now=NOW)
    with pytest.raises(ParameterException, match=words):
        task.requires()


# --- what is left out


def test_historical_range_is_all_outside_the_window_and_says_so() -> None:
    old = RangeDaily(of=MyDailyTask, start=day("2020-01-01"), stop=day("2020-12-31"), now=NOW)
    assert (old.requires(), old.complete()) == ([], True)  # Luigi's silent no-op, kept
    plan = old.account()
    assert (plan.wanted, plan.outside_window, len(plan.before_window), plan.done_before) == (365, 365, 365, 0)
    assert not plan.is_whole


def test_future_is_after_the_window() -> None:
    plan = RangeDaily(of=MyDailyTask, start=day("2021-09-10"), stop=day("2021-10-01"), now=NOW).account()
    assert (plan.wanted, plan.selected, len(plan.before_window), len(plan.after_window)) == (21, 10, 0, 11)
    assert plan.after_window[0] == datetime.datetime(2021, 9, 20)


def test_range_that_is_all_in_the_future_is_after_the_window() -> None:
    plan = RangeDaily(of=MyDailyTask, start=day("2030-01-01"), stop=day("2030-01-11"), now=NOW).account()
    assert (plan.wanted, len(plan.before_window), len(plan.after_window)) == (10, 0, 10)


def test_account_of_centuries_of_minutes_makes_no_task_outside_the_window() -> None:
    made = []

    class Counted(MyMinuteTask):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            made.append(args)
            super().__init__(*args, **kwargs)

    task = RangeByMinutes(of=Counted, start=datetime.datetime(1800, 1, 1), now=NOW, minutes_back=60)
    plan = task.account()
    minutes = (datetime.datetime(2021, 9, 19, 11) - datetime.datetime(1800, 1, 1)) // datetime.timedelta(minutes=1)
    assert (plan.outside_window, plan.selected, plan.over_limit) == (minutes, 50, 10)
    assert plan.before_window[-1] == datetime.datetime(2021, 9, 19, 10, 59)
    assert len(made) <= 60


def test_newest_come_first_in_reverse_and_the_oldest_are_left() -> None:
    task = RangeDaily(of=MyDailyTask, start=day("2021-09-01"), now=NOW, reverse=True, task_limit=3)
    assert [str(t.date) for t in task.requires()] == ["2021-09-19", "2021-09-18", "2021-09-17"]
    assert task.account().left_by_limit[-1] == datetime.datetime(2021, 9, 16)


def test_reverse_without_start_goes_back_as_far_as_the_window() -> None:
    plan = RangeDaily(of=MyDailyTask, stop=day("2021-09-10"), now=NOW, reverse=True).account()
    assert (plan.wanted, plan.outside_window, plan.chosen[0]) == (90, 0, datetime.datetime(2021, 9, 9))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "At least one of start and stop needs to be specified"),
        ({"stop": day("2021-01-01")}, "Either start needs to be specified or reverse needs to be True"),
        ({"start": day("2021-01-02"), "stop": day("2021-01-01")}, "Can't have start > stop"),
    ],
)
def test_range_without_sensible_ends_is_refused(options: Any, words: str) -> None:
    with pytest.raises(ParameterException, match=words):
        RangeDaily(of=MyDailyTask, now=NOW, **options).requires()


def test_range_is_found_out_once_until_it_is_told_to_forget() -> None:
    task = RangeDaily(of=MyDailyTask, start=day("2021-09-18"), now=NOW)
    before = task.requires()
    run(task)
    assert (task.requires() is before, task.complete(), len(task.account().done)) == (True, True, 0)
    task.forget()
    assert (task.requires(), len(task.account().done)) == ([], 2)


# --- what is asked


def test_bulk_complete_is_asked_once_with_other_arguments_given() -> None:
    asked = []

    class Bulk(Task):
        date = DateParameter()
        city = Parameter()

        @classmethod
        def bulk_complete(cls, values: Any) -> Any:
            asked.append(list(values))
            return [value for value in asked[-1] if cls(value).city == "Oslo" and value.day != 5]

    task = RangeDaily(of=Bulk, of_params={"city": "Oslo"}, start=day("2021-09-01"), now=NOW)
    assert [(t.date, t.city) for t in task.requires()] == [(day("2021-09-05"), "Oslo")]
    assert len(asked) == 1


def test_naive_bulk_complete_works_in_a_range() -> None:
    class Naive(MixinNaiveBulkComplete, MyDailyTask):
        def complete(self) -> bool:
            return self.date.day < 18

    assert len(RangeDaily(of=Naive, start=day("2021-09-01"), now=NOW).requires()) == 2


def test_base_range_asks_each_task_and_so_honours_its_own_complete() -> None:
    class Own(MyDailyTask):
        def complete(self) -> bool:
            return self.date.day % 2 == 0

    options: Any = {"of": Own, "start": day("2021-09-10"), "now": NOW}
    assert len(RangeDailyBase(**options).requires()) == 5
    assert len(RangeDaily(**options).requires()) == 10


def test_outputs_of_a_wrapper_are_those_of_what_it_requires() -> None:
    class Both(WrapperTask):
        date = DateParameter()

        def requires(self) -> Any:
            return [MyDailyTask(self.date), MyDailyTask(self.date - 365 * DAY)]

    for date in ("2021-09-18", "2020-09-18", "2021-09-17"):
        Path(f"luigi-{date}").touch()
    task = RangeDaily(of=Both, start=day("2021-09-17"), now=NOW)
    assert [str(t.date) for t in task.requires()] == ["2021-09-17", "2021-09-19"]


def test_task_without_outputs_counts_as_done_and_the_account_notes_it() -> None:
    class Nothing(Task):
        date = DateParameter()

        def complete(self) -> bool:
            return False

    task = RangeDaily(of=Nothing, start=day("2021-09-17"), now=NOW)
    assert (task.requires(), task.account().done_before) == ([], 3)
    assert task.account().notes == ("Nothing has no outputs: none is missing, so all count as done",)
    assert RangeDaily(of=MyDailyTask, start=day("2021-09-17"), now=NOW).account().notes == ()


def test_outputs_that_are_no_files_are_refused() -> None:
    class Odd(MyDailyTask):
        def output(self) -> Any:
            return object()

    with pytest.raises(NotImplementedError, match="Output targets must be instances of FileSystemTarget"):
        RangeDaily(of=Odd, start=day("2021-09-17"), now=NOW).requires()


def test_parameter_is_the_first_positional_one_unless_named() -> None:
    class Two(Task):
        quiet = IntParameter(default=0, positional=False)
        first = DateParameter()
        n = IntParameter(default=0)
        second = DateParameter(default=day("2000-01-01"))

        def output(self) -> Any:
            return LocalTarget(f"{self.first}-{self.second}")

    assert RangeDaily(of=Two, start=day("2021-09-19"), now=NOW).requires() == [Two(day("2021-09-19"))]

    class Later(Two):
        first = DateParameter(default=day("2020-02-02"))

    named = RangeDaily(of=Later, of_params={"n": 7}, param_name="second", start=day("2021-09-19"), now=NOW)
    assert named.requires() == [Later(n=7, second=day("2021-09-19"))]
    assert named.parameters_to_datetime(named.datetime_to_parameters(datetime.datetime(2021, 9, 19))) == (
        datetime.datetime(2021, 9, 19)
    )


def test_subclass_may_list_its_own_points_and_missing_ones() -> None:
    class Weekdays(RangeDailyBase):
        def finite_datetimes(self, finite_start: Any, finite_stop: Any) -> Any:
            return [point for point in super().finite_datetimes(finite_start, finite_stop) if point.weekday() < 5]

        def missing_datetimes(self, finite_datetimes: Any) -> Any:
            return set(finite_datetimes[1:])

    task = Weekdays(of=MyDailyTask, start=day("2021-01-01"), now=NOW, days_back=7)
    assert [str(t.date) for t in task.requires()] == [f"2021-09-{n}" for n in (14, 15, 16, 17)]
    plan = task.account()
    assert (plan.done_before, plan.selected, plan.outside_window) == (1, 4, 181)


def test_old_form_of_missing_datetimes_still_works_and_warns() -> None:
    class Old(RangeDailyBase):
        def missing_datetimes(self, task_cls: Any, finite_datetimes: Any) -> Any:  # type: ignore[override]
            assert task_cls is MyDailyTask
            return finite_datetimes[:1]

    with pytest.warns(UserWarning, match=r"missing_datetimes\(\) should only take 1 argument"):
        assert len(Old(of=MyDailyTask, start=day("2021-09-18"), now=NOW).requires()) == 1


def test_events_count_the_whole_range() -> None:
    said = {}
    for event in (RangeEvent.DELAY, RangeEvent.COMPLETE_COUNT, RangeEvent.COMPLETE_FRACTION):
        RangeDaily.event_handler(event)(lambda family, number, event=event: said.update({event: (family, number)}))
    Path("luigi-2021-09-16").touch()
    RangeDaily(of=MyDailyTask, start=day("2021-09-16"), stop=day("2021-09-21"), now=NOW).requires()
    assert said == {
        "event.tools.range.delay": ("MyDailyTask", 4),
        "event.tools.range.complete.count": ("MyDailyTask", 2),
        "event.tools.range.complete.fraction": ("MyDailyTask", 0.4),
    }


def test_now_is_utc_and_today_counts_but_not_at_midnight() -> None:
    def last(now: datetime.datetime) -> datetime.date:
        moment = int(now.replace(tzinfo=datetime.UTC).timestamp())
        value: datetime.date = RangeDaily(of=MyDailyTask, start=day("2021-09-01"), now=moment).requires()[-1].date
        return value

    assert last(datetime.datetime(2021, 9, 19, 0, 0, 1)) == day("2021-09-19")
    assert last(datetime.datetime(2021, 9, 19)) == day("2021-09-18")


def test_making_a_range_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RangeDaily(of=MyDailyTask, start=day("2021-09-18"))
    assert {name for name in ranges.__all__ if name.startswith("Range")} <= {*Register.task_names(), "RangeEvent"}
