"""A calendar for a terminal: a letter for every day, hour or month, in rows that people know. Draws, and nothing else.

    2010-03              2010-04                  2010-03-14  ######  ###X..  ......  ......
        M T W T F S S        M T W T F S S
     1  # # # # # # #     1        # # # #        2010  # # # # # # . . . . . .
     8  # # # # # X .     5  # . . . . . .

States have letters of their own, so that colours only help. What does not fit the width is put on more lines, and a
range of too many cells is drawn with coarser ones, each as bad as the worst in it.
"""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from jubako.flow.explain.status import STATES, State
from jubako.records import record

__all__ = ["MARKS", "Drawing", "draw_calendar"]

MARKS: Final[Mapping[State, str]] = {
    "done": "#",
    "owed": "o",
    "unrecorded": "+",
    "running": ">",
    "disabled": "-",
    "missing": ".",
    "gone": "?",
    "failed": "X",
    "broken": "!",
}
_UNITS: Final = ("second", "minute", "hour", "day", "month", "year")
_MOST: Final = {"second": 1800, "minute": 1800, "hour": 62 * 24, "day": 3700, "month": 1200, "year": 10_000}
_GAP: Final = "    "
_BLOCK_WIDTH: Final = 4 + 7 * 2 - 1

Paint = Callable[[State], str]
Cells = Mapping[Any, State]


@record
class _Rows:
    """How cells of a unit are put into rows."""

    label: Callable[[Any], str]
    column: Callable[[Any], int]
    groups: int
    in_group: int
    heading: Callable[[int], str]  # of a column; at most as wide as what follows it allows
    apart: bool  # a space between cells


_ROWS: Final[Mapping[str, _Rows]] = {
    "year": _Rows(lambda v: f"{v.year // 10 * 10:04}", lambda v: v.year % 10, 2, 5, str, apart=True),
    "month": _Rows(lambda v: f"{v.year:04}", lambda v: v.month - 1, 2, 6, lambda n: "JFMAMJJASOND"[n], apart=True),
    "hour": _Rows(lambda v: f"{v:%Y-%m-%d}", lambda v: v.hour, 4, 6, lambda n: "" if n % 6 else f"{n}", apart=False),
    "minute": _Rows(
        lambda v: f"{v:%Y-%m-%dT%H}", lambda v: v.minute, 4, 15, lambda n: "" if n % 15 else f"{n}", apart=False
    ),
    "second": _Rows(
        lambda v: f"{v:%Y-%m-%dT%H%M}", lambda v: v.second, 4, 15, lambda n: "" if n % 15 else f"{n}", apart=False
    ),
}


@record
class Drawing:
    """The calendar's lines, and what one cell is."""

    lines: Sequence[str]
    unit: str


def draw_calendar(
    values: Sequence[Any], states: Sequence[State], unit: str, *, width: int, paint: Paint = MARKS.__getitem__
) -> Drawing:
    """`values` (dates or times, in order) with their states, no line wider than `width` if that is at all possible.

    `unit` is what `values` count in; `paint` gives the one character that a state is shown as, perhaps coloured.
    """
    cells: Cells = dict(zip(values, states, strict=True))
    while len(cells) > _MOST[unit] and unit != "year":
        unit = _UNITS[_UNITS.index(unit) + 1]
        cells = _coarsen(cells, unit)
    lines = _draw_months(cells, width, paint) if unit == "day" else _draw_rows(cells, _ROWS[unit], width, paint)
    return Drawing([line.rstrip() for line in lines], unit)


def _coarsen(cells: Cells, unit: str) -> Cells:
    """One cell for all that lie in the same `unit`, in the worst of their states."""
    coarse: dict[Any, State] = {}
    for value, state in cells.items():
        place = _start_of(value, unit)
        known = coarse.get(place)
        if known is None or STATES.index(state) > STATES.index(known):
            coarse[place] = state
    return coarse


def _start_of(value: Any, unit: str) -> Any:
    if unit == "minute":
        return value.replace(second=0)
    if unit == "hour":
        return value.replace(minute=0, second=0)
    day = datetime.date(value.year, value.month, value.day)
    return day if unit == "day" else day.replace(day=1) if unit == "month" else day.replace(month=1, day=1)


def _draw_months(cells: Cells, width: int, paint: Paint) -> Iterator[str]:
    """Months as blocks of weeks, as many side by side as fit."""
    blocks = [
        _draw_month(dict(days), paint)
        for _, days in groupby(cells.items(), key=lambda cell: (cell[0].year, cell[0].month))
    ]
    beside = max(1, (width + len(_GAP)) // (_BLOCK_WIDTH + len(_GAP)))
    for start in range(0, len(blocks), beside):
        if start:
            yield ""
        row = blocks[start : start + beside]
        for number in range(max(len(block) for block in row)):
            parts = [block[number] if number < len(block) else ("", 0) for block in row]
            yield _GAP.join(text + " " * (_BLOCK_WIDTH - shown) for text, shown in parts)


def _draw_month(cells: Cells, paint: Paint) -> list[tuple[str, int]]:
    """The lines of a month with the columns each takes: weeks begin on Monday, and are named by their first day."""
    first = next(iter(cells))
    title = f"{first:%Y-%m}"
    lines = [(title, len(title)), ("    M T W T F S S", _BLOCK_WIDTH)]
    by_day = {day.day: state for day, state in cells.items()}
    for week in calendar.Calendar().monthdayscalendar(first.year, first.month):  # days of other months are 0
        shown = " ".join(paint(by_day[day]) if day in by_day else " " for day in week)
        lines.append((f"{next(filter(None, week)):>2}  {shown}", _BLOCK_WIDTH))
    return lines


def _draw_rows(cells: Cells, rows: _Rows, width: int, paint: Paint) -> Iterator[str]:
    """A row for each stretch of columns; where a row does not fit, its groups of columns go on more lines."""
    by_label = {
        label: {rows.column(value): state for value, state in row}
        for label, row in groupby(cells.items(), key=lambda cell: rows.label(cell[0]))
    }
    indent = max(len(label) for label in by_label) + 2
    between = " " if rows.apart else ""
    group_width = rows.in_group + len(between) * (rows.in_group - 1)
    beside = min(rows.groups, max(1, (width - indent + 2) // (group_width + 2)))
    while rows.groups % beside:
        beside -= 1
    is_first = True
    for start in range(0, rows.groups, beside):
        groups = [range(group * rows.in_group, (group + 1) * rows.in_group) for group in range(start, start + beside)]
        heads = [between.join(rows.heading(column) for column in group)[:group_width] for group in groups]
        yield from [] if is_first else [""]
        is_first = False
        yield " " * indent + "  ".join(head.ljust(group_width) for head in heads)
        for label, row in by_label.items():
            shown = [between.join(paint(row[n]) if n in row else " " for n in group) for group in groups]
            yield f"{label:<{indent}}{'  '.join(shown)}"
