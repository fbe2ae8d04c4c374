"""The state of dated tasks as intervals, so that a table of 120,000 hours is a handful of rows.

A task has a partition when exactly one of its significant parameters is a day, month, year, hour, minute or second.
Its place is a whole number of units from 1970, so neighbours differ by 1 and a stretch with one status is one row
[first, after). `set_partitions` joins the caller's transaction; the plan of its change is `plan_overlay`, pure.
"""

from __future__ import annotations

import datetime
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from jubako.flow.parameters import (
    DateHourParameter,
    DateMinuteParameter,
    DateParameter,
    DateSecondParameter,
    MonthParameter,
    Parameter,
    ParameterVisibility,
    YearParameter,
)
from jubako.flow.tasks.register import find_signature
from jubako.flow.tasks.signature import Signature

__all__ = [
    "Interval",
    "Partition",
    "PartitionStatus",
    "find_partition",
    "find_unit",
    "find_value",
    "list_partitions",
    "plan_overlay",
    "set_partitions",
]

PartitionStatus = Literal["done", "failed"]
_KEY = "pipeline = ? AND family = ? AND fixed = ? AND parameter = ? AND unit = ?"


class Partition(NamedTuple):
    """Where a dated task lies: which series, and at which place of it."""

    family: str
    fixed: str  # the other significant parameters, as "name=value, ..."
    parameter: str
    unit: str  # day, month, year, hour, minute, second, or "3 day" for a parameter with interval=3
    place: int


class Interval(NamedTuple):
    """Places `first` to before `after`, all with one status."""

    first: int
    after: int
    status: str


def find_partition(task: Any) -> Partition | None:
    """Where `task` lies, or None if not exactly one significant parameter is a date."""
    cls = type(task)
    series = _SERIES.get(cls)
    if series is None or series.signature is not find_signature(cls):  # new, or the class has changed
        series = _SERIES[cls] = _find_series(find_signature(cls))
    if series.count_places is None:
        return None
    value = getattr(task, series.parameter)
    if not isinstance(value, series.kind):  # None, or whatever else the constructor was given
        return None
    fixed = ", ".join([f"{name}={serialize(getattr(task, name))}" for name, serialize in series.others])
    return Partition(series.signature.family, fixed, series.parameter, series.unit, series.count_places(value))


def find_unit(parameter: Parameter[Any]) -> str | None:
    """What the values of a dated parameter count: day, month, year, hour, minute or second; None if it isn't dated."""
    return next((unit for kind, unit, _ in _UNITS if isinstance(parameter, kind)), None)


def find_value(parameter: Any, unit: str, place: int) -> Any:
    """The value of the dated `parameter` that has this place among those of `unit`; inverse of `find_partition`."""
    step, _, word = unit.rpartition(" ")
    last = place * int(step or 1) + int(step or 1) - 1  # the value is at one of so many units, moved back to its own
    if word == "year":
        return parameter.normalize(datetime.date(1970 + last, 1, 1))
    if word == "month":
        year, month = divmod(last, 12)
        return parameter.normalize(datetime.date(1970 + year, month + 1, 1))
    if word == "day":
        return parameter.normalize(datetime.date.fromordinal(_EPOCH + last))
    return parameter.normalize(datetime.datetime(1970, 1, 1) + last * _SECONDS[word] * datetime.timedelta(seconds=1))


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


class _Series(NamedTuple):
    """What the tasks of one class have in common. `count_places` turns a value into a place; None: not dated."""

    signature: Signature
    parameter: str = ""
    unit: str = ""
    count_places: Callable[[Any], int] | None = None
    kind: type = datetime.date  # of values that have a place
    others: tuple[tuple[str, Callable[[Any], str]], ...] = ()


def _find_series(signature: Signature) -> _Series:
    # Concealed values tell no tasks apart (they are not in the id either), and are kept out of the ledger.
    significant = [
        (name, parameter)
        for name, parameter in signature.parameters
        if parameter.significant and parameter.visibility is ParameterVisibility.PUBLIC
    ]
    dated: list[tuple[str, int, str, Callable[[Any], int]]] = []
    for name, parameter in significant:
        found = next(((unit, count) for kind, unit, count in _UNITS if isinstance(parameter, kind)), None)
        if found is not None:
            step: int = parameter.interval  # type: ignore[attr-defined]  # of every kind in the table
            dated.append((name, step, *found))
    if len(dated) != 1:
        return _Series(signature)
    ((name, step, unit, count),) = dated
    others = tuple((other, parameter.serialize) for other, parameter in significant if other != name)
    kind = datetime.datetime if unit in ("hour", "minute", "second") else datetime.date
    if step == 1:
        return _Series(signature, name, unit, count, kind, others)
    # Only every n-th unit exists; they are numbered so that neighbours still differ by 1.
    return _Series(signature, name, f"{step} {unit}", lambda value: count(value) // step, kind, others)


def _count_seconds(value: datetime.datetime) -> int:
    return (value.toordinal() - _EPOCH) * 86_400 + value.hour * 3600 + value.minute * 60 + value.second


_EPOCH = datetime.date(1970, 1, 1).toordinal()
_UNITS: tuple[tuple[Any, str, Callable[[Any], int]], ...] = (
    (YearParameter, "year", lambda value: value.year - 1970),
    (MonthParameter, "month", lambda value: (value.year - 1970) * 12 + value.month - 1),
    (DateParameter, "day", lambda value: value.toordinal() - _EPOCH),
    (DateHourParameter, "hour", lambda value: _count_seconds(value) // 3600),
    (DateMinuteParameter, "minute", lambda value: _count_seconds(value) // 60),
    (DateSecondParameter, "second", _count_seconds),
)
_SECONDS = {"hour": 3600, "minute": 60, "second": 1}
_SERIES: dict[type, _Series] = {}  # classes are kept for ever by the register anyway
