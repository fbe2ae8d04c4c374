"""Parameters whose values are days, months, years or intervals of days."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar, Unpack

from jubako.flow import date_interval
from jubako.flow.parameters.parameter import NoValue, Parameter, ParameterOptions, no_value

__all__ = ["DateIntervalParameter", "DateParameter", "MonthParameter", "YearParameter"]

_EPOCH = datetime.date(1970, 1, 1)


class DateParameter(Parameter[datetime.date]):
    """A day, `2021-09-01`. With `interval=n`, only every n-th day from `start`: others are moved back to one."""

    date_format: ClassVar[str] = "%Y-%m-%d"

    def __init__(
        self,
        default: datetime.date | NoValue = no_value,
        interval: int = 1,
        start: datetime.date | None = None,
        **options: Unpack[ParameterOptions],
    ) -> None:
        super().__init__(default, **options)
        self.interval = interval
        self.start = start if start is not None else _EPOCH

    def parse(self, s: str) -> datetime.date:
        # fromisoformat is a twentieth of strptime's cost; it must not see the week form, which strptime refuses
        if len(s) == 10 and s[4] == "-" == s[7] and self.date_format == "%Y-%m-%d":
            try:
                return datetime.date.fromisoformat(s)
            except ValueError:
                pass  # strptime says why, or reads what fromisoformat is too strict for
        return datetime.datetime.strptime(s, self.date_format).date()

    def serialize(self, dt: datetime.date) -> str:
        if dt is None:
            return str(dt)
        if self.date_format == "%Y-%m-%d":
            return datetime.date.isoformat(dt)
        return dt.strftime(self.date_format)

    def normalize(self, x: datetime.date) -> datetime.date:
        if x is None:
            return None
        if isinstance(x, datetime.datetime):
            x = x.date()
        if self.interval == 1 and isinstance(x, datetime.date):
            return x
        return x - datetime.timedelta(days=(x - self.start).days % self.interval)

    def next_in_enumeration(self, value: datetime.date) -> datetime.date | None:
        return value + datetime.timedelta(days=self.interval)


class MonthParameter(DateParameter):
    """A month, `2021-09`; its value is the month's first day. `interval` counts months."""

    date_format = "%Y-%m"

    def normalize(self, x: Any) -> datetime.date:
        if x is None:
            return None  # type: ignore[return-value]  # an Optional default passes through
        if isinstance(x, date_interval.Month):
            x = x.date_a
        return _add_months(x, -(_months_from(self.start, x) % self.interval))

    def next_in_enumeration(self, value: datetime.date) -> datetime.date | None:
        return _add_months(value, self.interval)

    def serialize(self, dt: datetime.date) -> str:
        if type(dt) is datetime.date and self.date_format == "%Y-%m":
            return f"{dt.year:04d}-{dt.month:02d}"
        return super().serialize(dt)


class YearParameter(DateParameter):
    """A year, `2021`; its value is January 1. `interval` counts years."""

    date_format = "%Y"

    def normalize(self, x: Any) -> datetime.date:
        if x is None:
            return None  # type: ignore[return-value]  # an Optional default passes through
        if isinstance(x, date_interval.Year):
            x = x.date_a
        return datetime.date(x.year - (x.year - self.start.year) % self.interval, 1, 1)

    def next_in_enumeration(self, value: datetime.date) -> datetime.date | None:
        return value.replace(year=value.year + self.interval)

    def serialize(self, dt: datetime.date) -> str:
        if type(dt) is datetime.date and self.date_format == "%Y":
            return f"{dt.year:04d}"
        return super().serialize(dt)


class DateIntervalParameter(Parameter[date_interval.DateInterval]):
    """An interval of days in any of its five forms: `2021`, `2021-09`, `2021-W35`, `2021-09-01`, or two dates."""

    def parse(self, s: str) -> date_interval.DateInterval:
        return date_interval.parse_interval(s)


def _months_from(start: datetime.date, date: datetime.date) -> int:
    return (date.year - start.year) * 12 + date.month - start.month


def _add_months(date: datetime.date, months: int) -> datetime.date:
    year, month = divmod(date.year * 12 + date.month - 1 + months, 12)
    return datetime.date(year, month + 1, 1)
