"""Ranges of Luigi and ours, with the same settings over the same state: same tasks, same events, same refusals.

Exempt, by name:
  outputs that don't vary     Luigi tries 135 sample dates to find the date in the path; ours compares the real paths
  dates in folders            Luigi lists local folders by a pattern that nothing expands, and takes all for missing
"""

from __future__ import annotations

import datetime
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jubako
from jubako.flow import parameters
from jubako.flow.ranges import range as ranges
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.tasks.task import Task

DAY = datetime.date(2024, 3, 15)
SECOND = datetime.timedelta(seconds=1)

# range -> the parameter of its tasks, what it calls its window, how wide to try it, the length of one step
KINDS = {
    "RangeDaily": ("DateParameter", "days", 40, datetime.timedelta(days=1)),
    "RangeDailyBase": ("DateParameter", "days", 40, datetime.timedelta(days=1)),
    "RangeHourly": ("DateHourParameter", "hours", 60, datetime.timedelta(hours=1)),
    "RangeHourlyBase": ("DateHourParameter", "hours", 60, datetime.timedelta(hours=1)),
    "RangeByMinutes": ("DateMinuteParameter", "minutes", 90, datetime.timedelta(minutes=1)),
    "RangeByMinutesBase": ("DateMinuteParameter", "minutes", 90, datetime.timedelta(minutes=1)),
    "RangeMonthly": ("MonthParameter", "months", 20, datetime.timedelta(days=30)),
}


def define(module: Any, base: Any, kind: str, is_done: Any) -> Any:
    """A dated task that is done when `is_done` says so of its value; asked in bulk as well as alone."""

    class Made(base):  # type: ignore[misc]
        when = getattr(module, kind)()
        flavour = module.Parameter(default="plain")

        def complete(self) -> bool:
            done: bool = is_done(self.when)
            return done

        @classmethod
        def bulk_complete(cls, values: Any) -> list[Any]:
            return [value for value in values if is_done(value)]

    return Made


def what_happens(range_cls: Any, made: Any, exception: Any, options: dict[str, Any]) -> Any:
    events: list[Any] = []
    try:
        task = range_cls(of=made, **options)
        for name in ("DELAY", "COMPLETE_COUNT", "COMPLETE_FRACTION"):
            range_cls.event_handler(getattr(ranges.RangeEvent, name))(
                lambda *said, name=name: events.append((name, said))
            )
        required = task.requires()
        return [(t.when, t.flavour) for t in required], sorted(events), repr(task), task.task_id, task.complete()
    except exception as error:
        return type(error).__name__, str(error)
    finally:
        range_cls._event_callbacks.pop(range_cls, None)


@st.composite
def settings_of(draw: Any, name: str) -> dict[str, Any]:
    _, unit, width, step = KINDS[name]
    now = datetime.datetime(2024, 3, 15) + draw(st.integers(0, 86400)) * SECOND
    options: dict[str, Any] = {"now": int((now - datetime.datetime(1970, 1, 1)).total_seconds())}
    near = st.integers(-2 * width, width).map(lambda n: now + n * step)
    for end in ("start", "stop"):
        if draw(st.integers(0, 3)):
            options[end] = draw(near)
            if unit in ("days", "months"):
                options[end] = options[end].date()
    options[f"{unit}_back"] = draw(st.integers(0, width))  # the defaults, up to 2400 tasks, are tried once below
    for setting, values in (
        ("reverse", st.booleans()),
        ("task_limit", st.integers(-1, 2 * width)),
        (f"{unit}_forward", st.integers(0, width)),
        ("of_params", st.just({"flavour": "odd"})),
        ("param_name", st.just("when")),
    ):
        if draw(st.booleans()):
            options[setting] = draw(values)
    if unit == "minutes" and draw(st.booleans()):
        options["minutes_interval"] = draw(st.sampled_from([0, 1, 5, 7, 15, 30, 60]))
    return options


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=15)
@given(data=st.data())
def test_range_requires_what_luigis_does(luigi: Any, name: str, data: st.DataObject) -> None:
    options = data.draw(settings_of(name))
    period = data.draw(st.sampled_from([1, 2, 3, 1000]))

    def is_done(when: Any) -> bool:
        return (when.toordinal() * 1440 + getattr(when, "hour", 0) * 60 + getattr(when, "minute", 0)) % period == 0

    kind = KINDS[name][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = what_happens(
            getattr(luigi.tools.range, name),
            define(luigi, luigi.Task, kind, is_done),
            luigi.parameter.ParameterException,
            options,
        )
        ours_cls = define(parameters, Task, kind, is_done)
        ours = what_happens(getattr(ranges, name), ours_cls, parameters.ParameterException, options)
        assert ours == theirs
        if len(ours) > 2:
            check_account(getattr(ranges, name)(of=ours_cls, **options), ours[0])


def check_account(task: Any, required: list[Any]) -> None:
    """Every point that was wanted is in exactly one place."""
    plan = task.account()
    assert plan.wanted == plan.done_before + plan.outside_window + plan.over_limit + plan.selected
    places = [*plan.before_window, *plan.after_window, *plan.done, *plan.left_by_limit, *plan.chosen]
    assert len(places) == len(set(places)) == plan.wanted
    assert plan.selected == len(required)
    start = None if task.start is None else task.parameter_to_datetime(task.start)
    stop = None if task.stop is None else task.parameter_to_datetime(task.stop)
    now = datetime.datetime(1970, 1, 1) + task.now * SECOND
    everything = task.finite_datetimes(
        start if start is not None else min(task.moving_start(now), stop),
        stop if stop is not None else max(task.moving_stop(now), start),
    )
    assert sorted(places) == everything
    window = (task.moving_start(now), task.moving_stop(now))
    assert all(point < window[0] for point in plan.before_window)
    assert all(point >= window[1] or stop is None or task.moving_stop(now) <= stop for point in plan.after_window)
    assert plan.is_whole == (plan.outside_window == plan.over_limit == 0)


@pytest.mark.parametrize("name", KINDS)
def test_defaults_are_luigis(luigi: Any, name: str) -> None:
    kind, unit, *_ = KINDS[name]

    def outcome(module: Any, base: Any, range_cls: Any) -> Any:
        made = define(module, base, kind, lambda when: when.day == 3)
        start = datetime.date(2020, 1, 1) if unit in ("days", "months") else datetime.datetime(2020, 1, 1)
        task = range_cls(of=made, start=start, now=1710498600)
        few = [t.when for t in task.requires()] if unit in ("days", "months") else []
        return repr(task), task.task_id, range_cls.get_param_names(), few

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = outcome(luigi.parameter, luigi.Task, getattr(luigi.tools.range, name))
    assert outcome(parameters, Task, getattr(ranges, name)) == theirs


# --- completeness found out from files


def touch(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(path).touch()


@pytest.mark.parametrize("layout", ["{0}/%Y-%m-%d", "{0}/%Y%m%d-{1}", "{0}/%Y/%m/%d/part", "{0}/%Y%m%d/a-{1}"])
@settings(max_examples=6)
@given(done=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1)), max_size=40))
def test_missing_outputs_are_found_as_in_luigi(
    luigi: Any, tmp_path_factory: pytest.TempPathFactory, layout: str, done: list[tuple[int, int]]
) -> None:
    root = tmp_path_factory.mktemp("r")
    outputs = 2 if "{1}" in layout else 1

    def define_written(module: Any, base: Any, target: Any) -> Any:
        class Written(base):  # type: ignore[misc]
            when = module.DateParameter()

            def output(self) -> Any:
                return [target(self.when.strftime(layout).format(root, n)) for n in range(outputs)]

        return Written

    ours, theirs = define_written(parameters, Task, LocalTarget), define_written(luigi, luigi.Task, luigi.LocalTarget)
    for days, n in done:
        touch((DAY - datetime.timedelta(days=days)).strftime(layout).format(root, n))
    now = int((datetime.datetime(2024, 3, 15, 12) - datetime.datetime(1970, 1, 1)).total_seconds())
    options: dict[str, Any] = {"start": DAY - datetime.timedelta(days=25), "now": now}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [t.when for t in luigi.tools.range.RangeDaily(of=theirs, **options).requires()]
        slowly = [t.when for t in luigi.tools.range.RangeDailyBase(of=theirs, **options).requires()]
    assert found == slowly or "/" in layout.removeprefix("{0}/")
    assert [t.when for t in ranges.RangeDaily(of=ours, **options).requires()] == slowly


def refusal(module: Any, range_cls: Any, target: Any, base: Any, kind: str) -> Any:
    class Odd(base):  # type: ignore[misc]
        when = module.DateParameter()

        def output(self) -> Any:
            return {
                "varying number": [target(f"/x/{self.when}-{n}") for n in range(self.when.day % 2 + 1)],
                "no date": target("/x/same"),
                "no output": [],
            }[kind]

        def complete(self) -> bool:
            return False

    now = int((datetime.datetime(2024, 3, 15, 12) - datetime.datetime(1970, 1, 1)).total_seconds())
    try:
        task = range_cls(of=Odd, start=DAY - datetime.timedelta(days=9), now=now)
        return task.requires()
    except NotImplementedError as error:
        return str(error).split(" was ")[0].split(" in output path")[0]


@pytest.mark.parametrize("kind", ["varying number", "no date", "no output"])
def test_completeness_that_can_not_be_told_from_files_is_refused_as_in_luigi(luigi: Any, kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = refusal(luigi, luigi.tools.range.RangeDaily, luigi.LocalTarget, luigi.Task, kind)
    assert refusal(parameters, jubako.RangeDaily, LocalTarget, Task, kind) == theirs
