"""Points in time at equal steps, as sequences that take no memory: what a range could want, however long it is.

A `Grid` numbers all points of one kind (midnights, full hours, firsts of months). `points(a, b)` are those from `a` up
to, not including, `b`, so a million minutes are two numbers until somebody looks at them.
"""

from __future__ import annotations

import datetime
from abc import abstractmethod
from collections.abc import Sequence
from typing import Final, overload

__all__ = ["Grid", "MonthGrid", "Points", "StepGrid"]

_EPOCH: Final = datetime.datetime(1970, 1, 1)


class Grid:
    """All points of one kind, numbered without gaps."""

    def points(self, start: datetime.datetime, stop: datetime.datetime) -> Points:
        """The points from `start` up to, not including, `stop`."""
        return Points(self, range(self.index_from(start), self.index_until(stop)))

    @abstractmethod
    def point(self, index: int) -> datetime.datetime:
        """The point with this number."""

    @abstractmethod
    def index_from(self, start: datetime.datetime) -> int:
        """The number of the first point not before `start`."""

    @abstractmethod
    def index_until(self, stop: datetime.datetime) -> int:
        """One more than the number of the last point before `stop`."""


class StepGrid(Grid):
    """Points a fixed time apart; one of them is 1970-01-01 00:00."""

    def __init__(self, step: datetime.timedelta) -> None:
        self.step = step

    def point(self, index: int) -> datetime.datetime:
        return _EPOCH + index * self.step

    def index_from(self, start: datetime.datetime) -> int:
        return -((_EPOCH - start) // self.step)  # rounded up

    def index_until(self, stop: datetime.datetime) -> int:
        return self.index_from(stop)


class MonthGrid(Grid):
    """The first of every month. A month counts once it is over: `stop` is moved back to the first of its month."""

    def point(self, index: int) -> datetime.datetime:
        year, month = divmod(index, 12)
        return datetime.datetime(year, month + 1, 1)

    def index_from(self, start: datetime.datetime) -> int:
        index = self.index_until(start)
        return index if self.point(index) >= start else index + 1

    def index_until(self, stop: datetime.datetime) -> int:
        return stop.year * 12 + stop.month - 1


class Points(Sequence[datetime.datetime]):
    """Some points of a grid, in order."""

    __slots__ = ("_grid", "_indices")

    def __init__(self, grid: Grid, indices: range) -> None:
        self._grid = grid
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> datetime.datetime: ...
    @overload
    def __getitem__(self, index: slice) -> Points: ...
    def __getitem__(self, index: int | slice) -> datetime.datetime | Points:
        if isinstance(index, slice):
            return Points(self._grid, self._indices[index])
        return self._grid.point(self._indices[index])

    def __repr__(self) -> str:
        if not self._indices:
            return "Points()"
        return f"Points({self[0]} to {self[-1]}, {len(self)} in all)"
