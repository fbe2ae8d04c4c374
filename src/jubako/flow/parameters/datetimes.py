"""Parameters whose values are points in time: full hours, minutes or seconds. Times are naive; UTC is meant."""

from __future__ import annotations

import datetime
import warnings
from typing import Any, ClassVar, Unpack

from jubako.flow.parameters.parameter import NoValue, Parameter, ParameterOptions, no_value

__all__ = ["DateHourParameter", "DateMinuteParameter", "DateSecondParameter"]

_EPOCH = datetime.datetime(1970, 1, 1)


class _DatetimeParameter(Parameter[datetime.datetime]):
    """Points `interval` units apart, counted from `start`; other times are moved back to one."""

    date_format: ClassVar[str]
    _timedelta: ClassVar[datetime.timedelta]  # one unit

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
        return str(dt) if dt is None else dt.strftime(self.date_format)

    def normalize(self, dt: Any) -> datetime.datetime:
        if dt is None:
            return None  # type: ignore[return-value]  # an Optional default passes through
        if not isinstance(dt, datetime.datetime):
            dt = datetime.datetime.combine(dt, datetime.time())
        dt = dt.replace(microsecond=0)
        step: datetime.timedelta = self.interval * self._timedelta
        return dt - (dt - self.start) % step  # type: ignore[no-any-return]

    def next_in_enumeration(self, value: datetime.datetime) -> datetime.datetime | None:
        return value + self.interval * self._timedelta


class DateHourParameter(_DatetimeParameter):
    """An hour, `2021-09-01T15`."""

    date_format = "%Y-%m-%dT%H"
    _timedelta = datetime.timedelta(hours=1)


class DateMinuteParameter(_DatetimeParameter):
    """A minute, `2021-09-01T1530`."""

    date_format = "%Y-%m-%dT%H%M"
    _timedelta = datetime.timedelta(minutes=1)
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
