"""Parameters whose values are points in time: full hours, minutes or seconds. Times are naive; UTC is meant."""

from __future__ import annotations

import datetime
import warnings
from typing import Any, ClassVar, Unpack

from jubako.flow.parameters.parameter import NoValue, Parameter, ParameterOptions, no_value

__all__ = ["DateHourParameter", "DateMinuteParameter", "DateSecondParameter"]

_EPOCH = datetime.datetime(1970, 1, 1)

_TIMESPEC = {"%Y-%m-%dT%H": "hours", "%Y-%m-%dT%H%M": "minutes", "%Y-%m-%dT%H%M%S": "seconds"}


class _DatetimeParameter(Parameter[datetime.datetime]):
    """Points `interval` units apart, counted from `start`; other times are moved back to one."""

    date_format: ClassVar[str]
    _timedelta: ClassVar[datetime.timedelta]  # one unit
    _below: ClassVar[dict[str, int]]  # what is smaller than the unit, set to 0

    def __init__(
        self,
        default: datetime.datetime | NoValue = no_value,
        interval: int = 1,
        start: datetime.datetime | None = None,
        **options: Unpack[ParameterOptions],
    ) -> None:
        super().__init__(default, **options)
        self.interval = interval
        self.start = start if start is not None else _EPOCH

    def parse(self, s: str) -> datetime.datetime:
        return datetime.datetime.strptime(s, self.date_format)

    def serialize(self, dt: datetime.datetime) -> str:
        timespec = _TIMESPEC.get(self.date_format)
        if timespec is None or dt is None or dt.tzinfo is not None:
            return str(dt) if dt is None else dt.strftime(self.date_format)
        # isoformat is a third of strftime's cost, and writes years before 1000 so that they can be read again
        return dt.isoformat(timespec=timespec).replace(":", "")

    def normalize(self, dt: Any) -> datetime.datetime:
        if dt is None:
            return None  # type: ignore[return-value]  # an Optional default passes through
        if not isinstance(dt, datetime.datetime):
            dt = datetime.datetime.combine(dt, datetime.time())
        if self.interval == 1 and self.start is _EPOCH and dt.tzinfo is None:
            return dt.replace(**self._below)  # type: ignore[no-any-return]
        dt = dt.replace(microsecond=0)
        step: datetime.timedelta = self.interval * self._timedelta
        return dt - (dt - self.start) % step  # type: ignore[no-any-return]

    def next_in_enumeration(self, value: datetime.datetime) -> datetime.datetime | None:
        return value + self.interval * self._timedelta


class DateHourParameter(_DatetimeParameter):
    """An hour, `2021-09-01T15`."""

    date_format = "%Y-%m-%dT%H"
    _timedelta = datetime.timedelta(hours=1)
    _below: ClassVar = {"minute": 0, "second": 0, "microsecond": 0, "fold": 0}


class DateMinuteParameter(_DatetimeParameter):
    """A minute, `2021-09-01T1530`."""

    date_format = "%Y-%m-%dT%H%M"
    _timedelta = datetime.timedelta(minutes=1)
    _below: ClassVar = {"second": 0, "microsecond": 0, "fold": 0}
    deprecated_date_format: ClassVar[str] = "%Y-%m-%dT%HH%M"

    def parse(self, s: str) -> datetime.datetime:
        try:
            value = datetime.datetime.strptime(s, self.deprecated_date_format)
        except ValueError:
            return super().parse(s)
        warnings.warn(
            'Using "H" between hours and minutes is deprecated, omit it instead.', DeprecationWarning, stacklevel=2
        )
        return value


class DateSecondParameter(_DatetimeParameter):
    """A second, `2021-09-01T153045`."""

    date_format = "%Y-%m-%dT%H%M%S"
    _timedelta = datetime.timedelta(seconds=1)
    _below: ClassVar = {"microsecond": 0, "fold": 0}
