"""Half-open intervals of days: one day, an ISO week, a month, a year, or any two dates.

An interval is a value: [date_a, date_b), printed and parsed in one canonical form per class.

    Date    2021-09-01               Month  2021-09
    Week    2021-W35                 Year   2021
    Custom  2021-09-01-2021-09-07    (the end is excluded)

Names and behaviour are those of `luigi.date_interval`.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import ClassVar, Self

__all__ = ["Custom", "Date", "DateInterval", "Month", "Week", "Year", "parse_interval"]

_ONE_DAY = datetime.timedelta(days=1)


class DateInterval:
    """The days from `date_a` up to, not including, `date_b`. Compares only with intervals of the same class."""

    __slots__ = ("date_a", "date_b")

    def __init__(self, date_a: datetime.date, date_b: datetime.date) -> None:
        self.date_a = date_a
        self.date_b = date_b

    @classmethod
    def from_date(cls, d: datetime.date) -> Self:
        """The interval of this class that contains `d`."""
        raise NotImplementedError(f"{cls.__name__} has no interval that belongs to a date")

    @classmethod
    def parse(cls, s: str) -> Self | None:
        """The interval that `s` names, None when `s` has another form; ValueError for a value that can't be."""
        raise NotImplementedError(f"{cls.__name__} has no text form")

    def to_string(self) -> str:
        """The canonical text, which `parse` reads back."""
        raise NotImplementedError(f"{type(self).__name__} has no text form")

    def dates(self) -> list[datetime.date]:
        """Every day of the interval, in order; empty when `date_b` is not after `date_a`."""
        return [self.date_a + datetime.timedelta(days=n) for n in range((self.date_b - self.date_a).days)]

    def hours(self) -> Iterator[datetime.datetime]:
        """Every full hour of the interval: 24 for each day."""
        for date in self.dates():
            midnight = datetime.datetime.combine(date, datetime.time())
            for hour in range(24):
                yield midnight.replace(hour=hour)

    def prev(self) -> Self:
        """The interval of the same class just before this one."""
        return self.from_date(self.date_a - _ONE_DAY)

    def next(self) -> Self:
        """The interval of the same class just after this one."""
        return self.from_date(self.date_b)

    def __str__(self) -> str:
        return self.to_string()

    def __repr__(self) -> str:
        return self.to_string()

    def __contains__(self, date: object) -> bool:
        # A datetime is a date to isinstance, but never equal to one, hence never in an interval (as in Luigi).
        return type(date) is datetime.date and self.date_a <= date < self.date_b

    def __iter__(self) -> Iterator[datetime.date]:
        return iter(self.dates())

    def __hash__(self) -> int:
        return hash(self.to_string())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DateInterval):
            return False
        return self._span() == self._span_of(other)

    def __lt__(self, other: object) -> bool:
        return self._span() < self._span_of(other)

    def __le__(self, other: object) -> bool:
        return self._span() <= self._span_of(other)

    def __gt__(self, other: object) -> bool:
        return self._span() > self._span_of(other)

    def __ge__(self, other: object) -> bool:
        return self._span() >= self._span_of(other)

    def _span(self) -> tuple[datetime.date, datetime.date]:
        return (self.date_a, self.date_b)

    def _span_of(self, other: object) -> tuple[datetime.date, datetime.date]:
        if not isinstance(other, DateInterval) or type(other) is not type(self):
            raise TypeError("Date interval type mismatch")
        return other._span()


class Date(DateInterval):
    """One day: `2021-09-01`."""

    __slots__ = ()
    _form: ClassVar[re.Pattern[str]] = re.compile(r"(\d\d\d\d)-(\d\d)-(\d\d)$")

    def __init__(self, y: int, m: int, d: int) -> None:
        first = datetime.date(y, m, d)
        super().__init__(first, first + _ONE_DAY)

    def to_string(self) -> str:
        return self.date_a.isoformat()

    @classmethod
    def from_date(cls, d: datetime.date) -> Self:
        return cls(d.year, d.month, d.day)

    @classmethod
    def parse(cls, s: str) -> Self | None:
        match = cls._form.match(s)
        return None if match is None else cls(int(match[1]), int(match[2]), int(match[3]))


class Week(DateInterval):
    """One ISO week, Monday to Sunday: `2021-W35`. Its year is the ISO year, which may differ from the days' year."""

    __slots__ = ()
    _form: ClassVar[re.Pattern[str]] = re.compile(r"(\d\d\d\d)-W(\d\d)$")

    def __init__(self, y: int, w: int) -> None:
        try:
            first = datetime.date.fromisocalendar(y, w, 1)
        except ValueError:
            raise ValueError("Invalid week") from None
        super().__init__(first, first + 7 * _ONE_DAY)

    def to_string(self) -> str:
        year, week, _ = self.date_a.isocalendar()
        return f"{year:04d}-W{week:02d}"

    @classmethod
    def from_date(cls, d: datetime.date) -> Self:
        year, week, _ = d.isocalendar()
        return cls(year, week)

    @classmethod
    def parse(cls, s: str) -> Self | None:
        match = cls._form.match(s)
        return None if match is None else cls(int(match[1]), int(match[2]))


class Month(DateInterval):
    """One calendar month: `2021-09`."""

    __slots__ = ()
    _form: ClassVar[re.Pattern[str]] = re.compile(r"(\d\d\d\d)-(\d\d)$")

    def __init__(self, y: int, m: int) -> None:
        first = datetime.date(y, m, 1)
        super().__init__(first, datetime.date(y + m // 12, m % 12 + 1, 1))

    def to_string(self) -> str:
        return f"{self.date_a.year:04d}-{self.date_a.month:02d}"

    @classmethod
    def from_date(cls, d: datetime.date) -> Self:
        return cls(d.year, d.month)

    @classmethod
    def parse(cls, s: str) -> Self | None:
        match = cls._form.match(s)
        return None if match is None else cls(int(match[1]), int(match[2]))


class Year(DateInterval):
    """One calendar year: `2021`."""

    __slots__ = ()
    _form: ClassVar[re.Pattern[str]] = re.compile(r"(\d\d\d\d)$")

    def __init__(self, y: int) -> None:
        super().__init__(datetime.date(y, 1, 1), datetime.date(y + 1, 1, 1))

    def to_string(self) -> str:
        return f"{self.date_a.year:04d}"

    @classmethod
    def from_date(cls, d: datetime.date) -> Self:
        return cls(d.year)

    @classmethod
    def parse(cls, s: str) -> Self | None:
        match = cls._form.match(s)
        return None if match is None else cls(int(match[1]))


class Custom(DateInterval):
    """The days between two dates, the second excluded: `2021-09-01-2021-09-07`. Reversed, it is empty."""

    __slots__ = ()
    _form: ClassVar[re.Pattern[str]] = re.compile(r"(\d\d\d\d)-(\d\d)-(\d\d)-(\d\d\d\d)-(\d\d)-(\d\d)$")

    def to_string(self) -> str:
        return f"{self.date_a.isoformat()}-{self.date_b.isoformat()}"

    def prev(self) -> Self:
        raise NotImplementedError(f"{self} is a custom interval, which has no previous one")

    def next(self) -> Self:
        raise NotImplementedError(f"{self} is a custom interval, which has no next one")

    @classmethod
    def parse(cls, s: str) -> Self | None:
        match = cls._form.match(s)
        if match is None:
            return None
        y1, m1, d1, y2, m2, d2 = (int(group) for group in match.groups())
        return cls(datetime.date(y1, m1, d1), datetime.date(y2, m2, d2))


def parse_interval(text: str) -> DateInterval:
    """The interval that `text` names in any of the five forms; ValueError when it has none of them."""
    for cls in (Year, Month, Week, Date, Custom):
        interval = cls.parse(text)
        if interval is not None:
            return interval
    raise ValueError("Invalid date interval - could not be parsed")
