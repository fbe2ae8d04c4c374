"""One array compared with what it should be: how far it is off, where first, and whether that is within its bound."""

from __future__ import annotations

import math

import numpy as np

from jubako.attention.checking.proportional import FACTOR, Proportional
from jubako.attention.checking.rounding import round_to
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.attention.checking.precision import Precision
    from jubako.attention.description import Array
    from jubako.verify.tolerance import Tolerance

__all__ = ["TINY", "Comparison", "compare", "forgive_forbidden"]

_AT_ONCE = 1 << 18  # numbers
TINY = 1e-300  # in place of a bound of 0, which nothing but the same number is within


@record
class Comparison:
    """How far something is off. The place is the first that is out of bound; else the one that is closest to it."""

    error: float  # the largest anywhere; NaN or inf if something is not finite that should be
    bound: float  # at the place
    used: float  # the largest share of its bound that any error uses up: 1 or less is within
    place: tuple[int, ...]  # empty if there is nothing to compare
    observed: float  # at the place
    expected: float
    ulps: float  # how far the two are apart, in units in the last place
    out: int  # so many numbers are out of bound or not finite
    count: int
    is_bounded: bool  # False if a bound is not finite: there is nothing to judge by
    is_exact: bool  # each is the exact result, correctly rounded
    is_finite: bool

    @property
    def holds(self) -> bool:
        """True if nothing is out of bound, and each bound is one."""
        return self.out == 0 and self.is_bounded


def compare(
    observed: Array,
    expected: Array,
    error: Array | Proportional,
    precision: Precision,
    tolerance: Tolerance | None = None,
) -> Comparison:
    """`observed` against `expected`, with bounds from the expected `error`; or from `tolerance`, if one is given."""
    if observed.size == 0:
        return Comparison(0.0, 0.0, 0.0, (), 0.0, 0.0, 0.0, 0, 0, is_bounded=True, is_exact=True, is_finite=True)
    errors = error if isinstance(error, Proportional) else _with_axes(error, observed.ndim)
    parts = [
        _Part(start, observed[start], expected[start], _part_of(errors, start), tolerance) for start in _parts(observed)
    ]
    out = sum(part.out for part in parts)
    part = next(part for part in parts if part.out) if out else max(parts, key=lambda part: part.used)
    place = (*part.start, *(int(i) for i in np.unravel_index(part.place, part.shape)))
    there = float(observed[place]), float(expected[place])
    return Comparison(
        error=float(np.max([part.error for part in parts])),
        bound=float(_bound(expected[place], _part_of(errors, place), tolerance)),
        used=float(np.max([part.used for part in parts])),
        place=place,
        observed=there[0],
        expected=there[1],
        ulps=abs(there[0] - there[1]) / precision.ulp(there[1]) if math.isfinite(there[0]) else math.nan,
        out=out,
        count=observed.size,
        is_bounded=all(part.is_bounded for part in parts),
        is_exact=not out and all(_is_rounded(observed[part.start], expected[part.start], precision) for part in parts),
        is_finite=not out or bool((np.isfinite(observed) | ~np.isfinite(expected)).all()),
    )


class _Part:
    """A part of two arrays, compared. What is worst is kept; the arrays of differences, which are large, are not."""

    def __init__(
        self, start: tuple[int, ...], observed: Array, expected: Array, error: Array, tolerance: Tolerance | None
    ) -> None:
        self.start = start
        self.shape = observed.shape
        with np.errstate(all="ignore"):
            off = np.subtract(observed, expected, dtype=np.float64)
            np.abs(off, out=off)
            if math.isnan(off.max()):  # an infinity less itself, too
                off[np.isinf(expected) & (observed == expected)] = 0.0
            bound = _bound(expected, error, tolerance)
            used = off / bound
        self.is_bounded = tolerance is not None or math.isfinite(bound.max())
        self.error = float(off.max())
        self.used = float(used.max())  # NaN if any is
        is_out = None if self.used <= 1.0 else ~(used <= 1.0)
        self.out = 0 if is_out is None else int(np.count_nonzero(is_out))
        self.place = int(np.argmax(used if is_out is None else is_out))


def _with_axes(error: Array, ndim: int) -> Array:
    return np.reshape(error, (1,) * (ndim - np.ndim(error)) + np.shape(error))


def _part_of(errors: Array | Proportional, start: tuple[int, ...]) -> Array:
    """The same part of what may have axes of length 1 in place of longer ones."""
    if isinstance(errors, Proportional):
        return errors.part(start)
    return errors[tuple(index if size > 1 else 0 for index, size in zip(start, errors.shape, strict=False))]


def _parts(array: Array) -> list[tuple[int, ...]]:
    """Where parts of an array start that fit a processor's cache: all of it, or each matrix by itself."""
    if array.ndim < 3 or array.size <= _AT_ONCE:
        return [()]
    return list(np.ndindex(array.shape[:-2]))


def forgive_forbidden(observed: Array, expected: Array, precision: Precision) -> Array:
    """Masked scores with -inf where a key is forbidden, if what is there weighs nothing just as well: -1e9, say.

    And the other way round: as expected where they are -inf for being beyond the largest number of the type.
    """
    lowest = -precision.largest * (1 - 2 * precision.unit)
    if observed.shape == expected.shape and (is_beyond := np.isneginf(observed) & (expected <= lowest)).any():
        observed = np.where(is_beyond, expected, observed)
    forbidden = np.isneginf(expected)
    if not forbidden.any() or observed.shape != expected.shape:
        return observed
    with np.errstate(invalid="ignore"):
        allowed = np.where(forbidden, -np.inf, observed).max(axis=-1, keepdims=True)
        weighs_nothing = forbidden & ((observed < allowed - 200.0) | np.isneginf(allowed))
    return np.where(weighs_nothing, -np.inf, observed)


def _bound(expected: Array, error: Array, tolerance: Tolerance | None) -> Array:
    if tolerance is None:
        return np.maximum(FACTOR * error, TINY)
    return np.maximum(float(tolerance.absolute) + float(tolerance.relative) * np.abs(expected), TINY)


def _is_rounded(observed: Array, expected: Array, precision: Precision) -> bool:
    return bool(np.array_equal(observed, round_to(expected, precision.name)))
