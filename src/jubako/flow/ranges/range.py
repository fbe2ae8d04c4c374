"""Ranges: tasks that require one dated task for every day, hour, minute or month between two points in time.

    RangeDaily(of=DailySummary, start=date(2021, 9, 1))       # until now; where stop is given it is excluded

Names, defaults and behaviour are those of `luigi.tools.range`, window and task limit included; `account()` says what
they leave out (see `range_base`). The classes named Base ask task by task, the others in bulk.
"""

from __future__ import annotations

import datetime
from typing import Any, ClassVar, Final

from jubako.flow.parameters import (
    DateHourParameter,
    DateMinuteParameter,
    DateParameter,
    IntParameter,
    MonthParameter,
    ParameterException,
)
from jubako.flow.ranges.range_base import NONE, InferredCompleteness, RangeBase, RangeEvent
from jubako.flow.ranges.range_missing import infer_bulk_complete_from_fs
from jubako.flow.ranges.range_points import Grid, MonthGrid, StepGrid

__all__ = [
    "RangeBase",
    "RangeByMinutes",
    "RangeByMinutesBase",
    "RangeDaily",
    "RangeDailyBase",
    "RangeEvent",
    "RangeHourly",
    "RangeHourlyBase",
    "RangeMonthly",
    "infer_bulk_complete_from_fs",
]

_START: Final = "the first {}; without it the range goes back as far as its window (needs --reverse)"
_STOP: Final = "the {} before which the range ends; without it the range ends now"
_BACK: Final = "{} before now that the range looks at; what is earlier is left out"
_FORWARD: Final = "{} after now that the range looks at; what is later is left out"

_DAYS: Final = StepGrid(datetime.timedelta(days=1))
_HOURS: Final = StepGrid(datetime.timedelta(hours=1))
_MONTHS: Final = MonthGrid()


class RangeDailyBase(RangeBase):
    """Requires a daily task for every day. Today counts as soon as it has begun."""

    start = DateParameter(default=NONE, description=_START.format("day"))
    stop = DateParameter(default=NONE, description=_STOP.format("day"))
    days_back = IntParameter(default=100, description=_BACK.format("days"))
    days_forward = IntParameter(default=0, description=_FORWARD.format("days"))

    window_names: ClassVar = ("days_back", "days_forward")

    def datetime_to_parameter(self, dt: datetime.datetime) -> Any:
        return dt.date()

    def parameter_to_datetime(self, p: Any) -> datetime.datetime:
        return datetime.datetime(p.year, p.month, p.day)

    def moving_start(self, now: datetime.datetime) -> datetime.datetime:
        return now - datetime.timedelta(days=self.days_back)

    def moving_stop(self, now: datetime.datetime) -> datetime.datetime:
        return now + datetime.timedelta(days=self.days_forward)

    def get_grid(self) -> Grid:
        return _DAYS


class RangeHourlyBase(RangeBase):
    """Requires an hourly task for every hour. The current hour counts as soon as it has begun."""

    start = DateHourParameter(default=NONE, description=_START.format("hour"))
    stop = DateHourParameter(default=NONE, description=_STOP.format("hour"))
    hours_back = IntParameter(default=100 * 24, description=_BACK.format("hours"))  # slightly more than three months
    hours_forward = IntParameter(default=0, description=_FORWARD.format("hours"))

    window_names: ClassVar = ("hours_back", "hours_forward")

    def datetime_to_parameter(self, dt: datetime.datetime) -> Any:
        return dt

    def parameter_to_datetime(self, p: Any) -> datetime.datetime:
        point: datetime.datetime = p
        return point

    def moving_start(self, now: datetime.datetime) -> datetime.datetime:
        return now - datetime.timedelta(hours=self.hours_back)

    def moving_stop(self, now: datetime.datetime) -> datetime.datetime:
        return now + datetime.timedelta(hours=self.hours_forward)

    def get_grid(self) -> Grid:
        return _HOURS


class RangeByMinutesBase(RangeBase):
    """Requires a task for every `minutes_interval` minutes of the hour."""

    start = DateMinuteParameter(default=NONE, description=_START.format("minute"))
    stop = DateMinuteParameter(default=NONE, description=_STOP.format("minute"))
    minutes_back = IntParameter(default=60 * 24, description=_BACK.format("minutes"))  # one day
    minutes_forward = IntParameter(default=0, description=_FORWARD.format("minutes"))
    minutes_interval = IntParameter(default=1, description="minutes from one task to the next; must divide 60")

    window_names: ClassVar = ("minutes_back", "minutes_forward")

    def datetime_to_parameter(self, dt: datetime.datetime) -> Any:
        return dt

    def parameter_to_datetime(self, p: Any) -> datetime.datetime:
        point: datetime.datetime = p
        return point

    def moving_start(self, now: datetime.datetime) -> datetime.datetime:
        return now - datetime.timedelta(minutes=self.minutes_back)

    def moving_stop(self, now: datetime.datetime) -> datetime.datetime:
        return now + datetime.timedelta(minutes=self.minutes_forward)

    def get_grid(self) -> Grid:
        if not 0 < self.minutes_interval < 60:
            raise ParameterException("minutes-interval must be within 0..60")
        if 60 % self.minutes_interval != 0:
            raise ParameterException("minutes-interval does not evenly divide 60")
        return StepGrid(datetime.timedelta(minutes=self.minutes_interval))


class RangeMonthly(RangeBase):
    """Requires a monthly task for every month. The current month is not over, hence not in it."""

    start = MonthParameter(default=NONE, description=_START.format("month"))
    stop = MonthParameter(default=NONE, description=_STOP.format("month"))
    months_back = IntParameter(default=13, description=_BACK.format("months"))  # a little over a year
    months_forward = IntParameter(default=0, description=_FORWARD.format("months"))

    window_names: ClassVar = ("months_back", "months_forward")

    def datetime_to_parameter(self, dt: datetime.datetime) -> Any:
        return datetime.date(dt.year, dt.month, 1)

    def parameter_to_datetime(self, p: Any) -> datetime.datetime:
        return datetime.datetime(p.year, p.month, 1)

    def moving_start(self, now: datetime.datetime) -> datetime.datetime:
        return _MONTHS.point(_MONTHS.index_until(now) - self.months_back)

    def moving_stop(self, now: datetime.datetime) -> datetime.datetime:
        return _MONTHS.point(_MONTHS.index_until(now) + self.months_forward)

    def get_grid(self) -> Grid:
        return _MONTHS


class RangeDaily(InferredCompleteness, RangeDailyBase):
    """Requires a daily task for every day, and finds out in bulk which are done."""


class RangeHourly(InferredCompleteness, RangeHourlyBase):
    """Requires an hourly task for every hour, and finds out in bulk which are done."""


class RangeByMinutes(InferredCompleteness, RangeByMinutesBase):
    """Requires a task for every `minutes_interval` minutes, and finds out in bulk which are done."""
