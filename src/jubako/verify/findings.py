"""What a comparator finds, put together: the first difference, how many there are, the largest deviation.

A comparator walks through two files and reports to one `Findings`; that applies the tolerance and leaves out what is
to be ignored, so that all comparators, also those from outside, mean the same by "within tolerance":

    def compare_readings(published, recomputed, findings):
        for number, (one, other) in enumerate(zip(read(published), read(recomputed)), 1):
            findings.numbers(one, other, lambda: f"reading {number}")

Places are given as functions, because most values agree and a text for each would cost more than comparing it.
"""

from __future__ import annotations

import json
import math

from jubako.records import field, record
from jubako.verify.tolerance import EXACT, Number, Tolerance, agree, distance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal, TypeAlias

__all__ = ["Comparison", "Deviation", "Difference", "Findings", "Incomparable", "Unreadable", "Verdict", "show"]

# same       nothing a reader of the format could tell apart
# within     numbers are apart, by no more than they may be
# different  something else is
# cannot     it cannot be told: `reason` says why
Verdict: TypeAlias = "Literal['same', 'within', 'different', 'cannot']"

_SHOWN = 60  # characters of a value


class Unreadable(Exception):
    """A file is not what its name says: it is compared as text or bytes instead."""


class Incomparable(Exception):
    """Two files cannot be compared at all, which says nothing about whether they are different."""


@record
class Difference:
    """A place where two files differ. Values are texts; "" where there is nothing at that place."""

    where: str
    published: str
    recomputed: str
    file: str = ""  # in a directory: which

    def describe(self) -> str:
        """ "row 3, column mean: published 7.25, recomputed 7.31"."""
        published, recomputed = self.published or "nothing", self.recomputed or "nothing"
        parts = [*(part for part in (self.file, self.where) if part), f"published {published}, recomputed {recomputed}"]
        return ": ".join(parts)


@record
class Deviation:
    """Two numbers that are apart. `relative` is in relation to the published one."""

    where: str
    published: str
    recomputed: str
    absolute: float
    relative: float
    file: str = ""


@record
class Comparison:
    """What comparing two files, or two directories, came to."""

    verdict: Verdict
    how: str  # bytes, text, csv, json ...
    first: Difference | None = None  # with the verdict "different"
    differing: int | None = 0  # how many values or lines differ; None: nobody went on after the first
    within: int = 0  # how many numbers are apart, and within tolerance
    largest: Deviation | None = None  # of those
    notes: Sequence[str] = ()
    reason: str = ""  # with the verdict "cannot"

    def describe(self) -> str:
        """What it came to, in a sentence without an end."""
        if self.verdict == "cannot":
            return self.reason
        if self.verdict == "different":
            first = "" if self.first is None else self.first.describe()
            more = f" (the first of {self.differing:,})" if self.differing is not None and self.differing > 1 else ""
            return "; ".join([first + more, *self.notes])
        parts = list(self.notes)
        if self.largest is not None:
            numbers = f"{self.within:,} number{'' if self.within == 1 else 's'}"
            where = f"{self.largest.file}: {self.largest.where}" if self.largest.file else self.largest.where
            off = f"off by {self.largest.absolute:.3g} ({self.largest.relative:.3g} of it) at most"
            parts.insert(0, f"{numbers} {off if self.largest.absolute else 'written in another way'}, at {where}")
        return "; ".join(parts)

    def to_json(self) -> dict[str, object]:
        """For programs; deviations that are no finite number become None."""
        return {
            "verdict": self.verdict,
            "how": self.how,
            "differing": self.differing,
            "within": self.within,
            "first": None if self.first is None else _as_mapping(self.first),
            "largest": None if self.largest is None else _as_mapping(self.largest),
            "notes": list(self.notes),
            "reason": self.reason or None,
        }


@record(frozen=False)
class Findings:
    """Takes what a comparator sees. `ignored` names columns and members, or paths ("$.made_at"), that are left out."""

    tolerance: Tolerance = EXACT
    ignored: frozenset[str] = frozenset()
    first: Difference | None = None
    differing: int = 0
    within: int = 0
    largest: Deviation | None = None
    is_partial: bool = False  # the rest was not looked at
    _notes: dict[str, None] = field(default_factory=dict)

    def ignores(self, name: str, path: str = "") -> bool:
        """True if what is called `name`, and where it is known lies at `path`, is to be left out; it is noted then."""
        if not self.ignored:
            return False
        for candidate in (name, path) if path else (name,):
            if candidate in self.ignored:
                self.note(f"{candidate} is not compared")
                return True
        return False

    def note(self, text: str) -> None:
        """Something the reader should know about how it was compared; said once."""
        self._notes.setdefault(text)

    def numbers(self, published: Number, recomputed: Number, where: Callable[[], str]) -> None:
        """Two numbers at the same place."""
        agreement = agree(published, recomputed, self.tolerance)
        if agreement == "different":
            self.differ(where(), str(published), str(recomputed))
        elif agreement == "within":
            self.deviate(published, recomputed, where)

    def deviate(self, published: Number, recomputed: Number, where: Callable[[], str], *, count: int = 1) -> None:
        """`count` pairs of numbers that are apart and within tolerance, of which this one is the furthest apart."""
        self.within += count
        absolute, relative = distance(published, recomputed)
        if self.largest is None or absolute > self.largest.absolute:
            self.largest = Deviation(where(), str(published), str(recomputed), absolute, relative)

    def differ(self, where: str, published: str, recomputed: str, *, count: int = 1) -> None:
        """`count` differences, of which this is the first."""
        self.differing += count
        if self.first is None:
            self.first = Difference(where, published, recomputed)

    def conclude(self, how: str) -> Comparison:
        """What it all came to."""
        is_different = self.first is not None
        return Comparison(
            verdict="different" if is_different else "within" if self.within else "same",
            how=how,
            first=self.first,
            differing=None if is_different and self.is_partial else self.differing,
            within=self.within,
            largest=self.largest,
            notes=tuple(self._notes),
        )


def show(value: object) -> str:
    """A value as text: short, quoted if it is text, so that spaces and line ends are seen."""
    if isinstance(value, (str, bytes)):
        is_long = len(value) > _SHOWN
        text = value[:_SHOWN]
        shown = repr(text) if isinstance(text, bytes) else json.dumps(text, ensure_ascii=False)
        return f"{shown[:-1]}...{shown[-1]}" if is_long else shown
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _as_mapping(found: Difference | Deviation) -> Mapping[str, object]:
    values = {name: getattr(found, name) for name in type(found).__match_args__}
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}
