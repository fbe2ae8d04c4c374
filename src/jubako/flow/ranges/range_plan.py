"""What a range was asked for, what of it lies in its window, and what its limit leaves over. Pure.

    wanted:    |------------------------------------------|      start to stop
    window:             |-------------------|                    now - back to now + forward
               before_window    inside       after_window
    inside:    done before, selected, over the limit

Luigi looks at `inside` only and counts nothing else; a range that leaves out most of what it was asked for looks done.
Here every point of `wanted` ends up in exactly one place, and `RangePlan` says how many in which.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime

from jubako.records import record

__all__ = ["RangePlan", "Window", "plan_range", "plan_window"]

PointsBetween = Callable[[datetime, datetime], Sequence[datetime]]


@record
class Window:
    """The points of a range by where they lie. Long ones are lazy (see `range_points`)."""

    start: datetime  # of `inside`
    stop: datetime  # excluded
    wanted: Sequence[datetime]
    before: Sequence[datetime]
    inside: Sequence[datetime]
    after: Sequence[datetime]


@record
class RangePlan:
    """One range, before anything has run: `wanted == done_before + outside_window + over_limit + selected`.

    What lies outside the window was not looked at: whether it is done is not known.
    """

    family: str  # of the tasks in the range
    before_window: Sequence[datetime]
    after_window: Sequence[datetime]
    done: Sequence[datetime]
    left_by_limit: Sequence[datetime]  # missing, and not selected
    chosen: Sequence[datetime]  # missing, and now required, in the order in which they are required
    settings: tuple[
        tuple[str, int], ...
    ]  # what made it so: ("days_back", 100), ("days_forward", 0), ("task_limit", 50)
    notes: tuple[str, ...] = ()  # why numbers may not mean what they seem to

    @property
    def wanted(self) -> int:
        return self.done_before + self.outside_window + self.over_limit + self.selected

    @property
    def done_before(self) -> int:
        return len(self.done)

    @property
    def outside_window(self) -> int:
        return len(self.before_window) + len(self.after_window)

    @property
    def over_limit(self) -> int:
        return len(self.left_by_limit)

    @property
    def selected(self) -> int:
        return len(self.chosen)

    @property
    def is_whole(self) -> bool:
        """Tells if nothing that was wanted was left out."""
        return self.outside_window == 0 and self.over_limit == 0


def plan_window(
    points: PointsBetween,
    start: datetime | None,
    stop: datetime | None,
    moving_start: datetime,
    moving_stop: datetime,
) -> Window:
    """Where the points from `start` to `stop` lie; an open end is where the window ends."""
    finite_start = moving_start if start is None else max(start, moving_start)
    finite_stop = moving_stop if stop is None else min(stop, moving_stop)
    wanted_start = finite_start if start is None else start
    wanted_stop = finite_stop if stop is None else stop
    wanted = points(wanted_start, wanted_stop) if wanted_start < wanted_stop else ()
    inside = points(finite_start, finite_stop) if finite_start < finite_stop else ()
    if inside:
        first, end = bisect_left(wanted, inside[0]), bisect_right(wanted, inside[-1])
    else:
        first = end = bisect_left(wanted, finite_start)
    return Window(finite_start, finite_stop, wanted, wanted[:first], inside, wanted[end:])


def plan_range(
    family: str,
    window: Window,
    missing: Sequence[datetime],
    *,
    task_limit: int,
    reverse: bool,
    settings: tuple[tuple[str, int], ...],
    notes: tuple[str, ...] = (),
) -> RangePlan:
    """Which of the `missing` points (sorted) to require now: the oldest `task_limit`, or with `reverse` the newest.

    Limits below 1 do what they do in Luigi: with `reverse` 0 takes all, and -1 takes all but the last (or first).
    """
    taken = list(missing[-task_limit:] if reverse else missing[:task_limit])
    kept = set(taken)
    absent = set(missing)
    return RangePlan(
        family=family,
        before_window=window.before,
        after_window=window.after,
        done=[point for point in window.inside if point not in absent],
        left_by_limit=[point for point in missing if point not in kept],
        chosen=taken[::-1] if reverse else taken,
        settings=settings,
        notes=notes,
    )
