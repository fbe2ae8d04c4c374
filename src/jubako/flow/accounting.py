"""What a range was asked for and what became of it, in numbers, and the lines that say so after Luigi's summary.

Luigi's summary counts what was scheduled. A range that leaves dates out, because they are outside its window or over
its limit, schedules less than was asked and still looks fine; these lines do not. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from jubako.records import record

if TYPE_CHECKING:
    from jubako.layers.change import Change

__all__ = ["RangeAccount", "format_accounts", "format_seconds", "format_undeclared"]

_SHOWN_WRITES = 5


@record
class RangeAccount:
    """One range. `wanted` is the sum of all others."""

    label: str
    wanted: int
    done_before: int = 0
    run: int = 0
    outside: int = 0  # outside the window the range looks at (days back, days forward)
    over_limit: int = 0  # left for the next time by its task limit
    failed: int = 0
    not_run: int = 0  # scheduled, and not finished: a dependency is missing, the run was interrupted
    settings: tuple[tuple[str, int], ...] = ()  # what made it leave things out: ("days_back", 100), ("task_limit", 50)
    notes: tuple[str, ...] = ()  # why numbers may not mean what they seem to
    not_asked: int = 0  # missing, and left alone because only what failed was asked for

    @property
    def is_whole(self) -> bool:
        """True when everything that was wanted is there."""
        return self.done_before + self.run == self.wanted

    @property
    def left_out(self) -> int:
        """How many were not even scheduled."""
        return self.outside + self.over_limit

    def describe(self) -> str:
        """One line; numbers that are 0 are left out, but for how many were wanted."""
        limits = [(name.replace("_", " "), value) for name, value in self.settings]
        window = ", ".join(f"{name} {value}" for name, value in limits if name != "task limit")
        limit = ", ".join(f"{name} {value}" for name, value in limits if name == "task limit")
        parts = [
            f"{count} {what}"
            for count, what in (
                (self.done_before, "done before"),
                (self.run, "run"),
                (self.outside, f"outside the window ({window})" if window else "outside the window"),
                (self.over_limit, f"over the limit ({limit})" if limit else "over the limit"),
                (self.failed, "failed"),
                (self.not_run, "not run"),
                (self.not_asked, "missing and not asked for"),
            )
            if count
        ]
        return f"{self.label}: {self.wanted} wanted" + (f" = {' + '.join(parts)}" if parts else "")


def format_accounts(accounts: Iterable[RangeAccount]) -> list[str]:
    """A line per range, and one per note."""
    return [line for account in accounts for line in (account.describe(), *account.notes)]


def format_undeclared(undeclared: Mapping[str, Sequence[Change]], *, published: bool = False) -> list[str]:
    """What tasks wrote without declaring it, by label: a line, and one per path up to a few. Tasks that wrote the same
    are named together.
    """
    labels: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for label, changes in undeclared.items():
        labels.setdefault(tuple([(change.kind, change.path) for change in changes]), []).append(label)
    lines = []
    for writes, writers in labels.items():
        who = (
            writers[0]
            if len(writers) == 1
            else f"{writers[0]} and {len(writers) - 1} more task{'' if len(writers) == 2 else 's'}"
        )
        what = f"{len(writes)} undeclared path{'' if len(writes) == 1 else 's'}"
        each = "" if len(writers) == 1 else " each"
        lines.append(f"{who} wrote {what}{each} ({'published' if published else 'dropped'}):")
        lines += [f"    {kind} {path}" for kind, path in writes[:_SHOWN_WRITES]]
        if len(writes) > _SHOWN_WRITES:
            lines.append(f"    and {len(writes) - _SHOWN_WRITES} more")
    return lines


def format_seconds(seconds: float) -> str:
    """How long something took, as people say it.

    >>> [format_seconds(s) for s in (0.004, 1.25, 75, 3725)]
    ['4 ms', '1.2 s', '1 min 15 s', '1 h 2 min']
    """
    if seconds < 0.1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
