"""The state of dated tasks as intervals, so that a table of 120,000 hours is a handful of rows.

A task has a partition when exactly one of its significant parameters is a day, month, year, hour, minute or second.
Its place is a whole number of units from 1970, so neighbours differ by 1 and a stretch with one status is one row
[first, after). `set_partitions` joins the caller's transaction; the plan of its change is `plan_overlay`, pure.
"""

from __future__ import annotations

import datetime
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jubako.flow.parameters import (
    DateHourParameter,
    DateMinuteParameter,
    DateParameter,
    DateSecondParameter,
    MonthParameter,
    YearParameter,
)

__all__ = [
    "Interval",
    "Partition",
    "PartitionStatus",
    "find_partition",
    "list_partitions",
    "plan_overlay",
    "set_partitions",
]

PartitionStatus = Literal["done", "failed"]
_KEY = "pipeline = ? AND family = ? AND fixed = ? AND parameter = ? AND unit = ?"


@dataclass(frozen=True, slots=True)
class Partition:
    """Where a dated task lies: which series, and at which place of it."""

    family: str
    fixed: str  # the other significant parameters, as "name=value, ..."
    parameter: str
    unit: str  # day, month, year, hour, minute, second, or "3 day" for a parameter with interval=3
    place: int


@dataclass(frozen=True, slots=True)
class Interval:
    """Places `first` to before `after`, all with one status."""

    first: int
    after: int
    status: str


def find_partition(task: Any) -> Partition | None:
    """Where `task` lies, or None if not exactly one significant parameter is a date."""
    dated: tuple[str, str, int] | None = None
    fixed = []
    for name, parameter in task.get_params():
        if not parameter.significant:
            continue
        value = getattr(task, name)
        found = _find_place(parameter, value)
        if found is None:
            fixed.append(f"{name}={parameter.serialize(value)}")
        elif dated is not None:
            return None
        else:
            dated = (name, *found)
    return None if dated is None else Partition(task.task_family, ", ".join(fixed), *dated)


def plan_overlay(old: Sequence[Interval], new: Interval) -> list[Interval]:
    """What `old` (ordered, apart from each other or touching) becomes with `new` laid over it, neighbours merged."""
    first, after = new.first, new.after
    kept: list[Interval] = []
    for interval in old:
        if interval.status == new.status and interval.first <= after and first <= interval.after:
            first, after = min(first, interval.first), max(after, interval.after)
            continue
        if interval.first < new.first:
            kept.append(Interval(interval.first, min(interval.after, new.first), interval.status))
        if interval.after > new.after:
            kept.append(Interval(max(interval.first, new.after), interval.after, interval.status))
    return sorted([*kept, Interval(first, after, new.status)], key=lambda interval: interval.first)


def set_partitions(
    connection: sqlite3.Connection, pipeline: int, partitions: Iterable[Partition], status: PartitionStatus
) -> None:
    """Gives all of `partitions` one status, inside the caller's transaction."""
    places: defaultdict[tuple[str, str, str, str], list[int]] = defaultdict(list)
    for partition in partitions:
        places[partition.family, partition.fixed, partition.parameter, partition.unit].append(partition.place)
    for series, members in places.items():
        for first, after in _join(sorted(members)):
            _overlay(connection, (pipeline, *series), Interval(first, after, status))


def list_partitions(
    connection: sqlite3.Connection, pipeline: int, family: str, *, fixed: str = ""
) -> dict[tuple[str, str], list[Interval]]:
    """The intervals of a family, in order, by (parameter, unit)."""
    found: defaultdict[tuple[str, str], list[Interval]] = defaultdict(list)
    for parameter, unit, first, after, status in connection.execute(
        "SELECT parameter, unit, first, after, status FROM partitions"
        " WHERE pipeline = ? AND family = ? AND fixed = ? ORDER BY parameter, unit, first",
        (pipeline, family, fixed),
    ):
        found[parameter, unit].append(Interval(first, after, status))
    return dict(found)


def _overlay(connection: sqlite3.Connection, key: tuple[object, ...], new: Interval) -> None:
    touching = f"{_KEY} AND first <= ? AND after >= ?"
    arguments = (*key, new.after, new.first)
    old = [
        Interval(*row)
        for row in connection.execute(
            f"SELECT first, after, status FROM partitions WHERE {touching} ORDER BY first", arguments
        )
    ]
    connection.execute(f"DELETE FROM partitions WHERE {touching}", arguments)
    connection.executemany(
        "INSERT INTO partitions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        ((*key, interval.first, interval.after, interval.status) for interval in plan_overlay(old, new)),
    )


def _join(places: Sequence[int]) -> Iterable[tuple[int, int]]:
    """Stretches [first, after) of neighbours in ordered `places`."""
    first = after = places[0]
    for place in places:
        if place > after:
            yield first, after
            first = place
        after = place + 1
    yield first, after


def _find_place(parameter: Any, value: Any) -> tuple[str, int] | None:
    """Unit and place of a date-like value, None for anything else."""
    if isinstance(value, datetime.datetime):
        days, seconds = value.toordinal() - _EPOCH, value.hour * 3600 + value.minute * 60 + value.second
        for kind, unit, length in _TIMES:
            if isinstance(parameter, kind):
                return _counted(unit, (days * 86_400 + seconds) // length, parameter)
    if not isinstance(parameter, DateParameter) or not isinstance(value, datetime.date):
        return None
    if isinstance(parameter, YearParameter):
        return _counted("year", value.year - 1970, parameter)
    if isinstance(parameter, MonthParameter):
        return _counted("month", (value.year - 1970) * 12 + value.month - 1, parameter)
    return _counted("day", value.toordinal() - _EPOCH, parameter)


def _counted(unit: str, place: int, parameter: Any) -> tuple[str, int]:
    """With interval=n only every n-th unit exists; they are numbered so that neighbours still differ by 1."""
    step = parameter.interval
    return (unit, place) if step == 1 else (f"{step} {unit}", place // step)


_EPOCH = datetime.date(1970, 1, 1).toordinal()
_TIMES = (
    (DateHourParameter, "hour", 3600),
    (DateMinuteParameter, "minute", 60),
    (DateSecondParameter, "second", 1),
)
