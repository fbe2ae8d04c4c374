"""How far two numbers may be apart, and whether they are: exactly, whatever kinds of numbers they are.

    exact       the same value, of the same kind (1 is not 1.0), with the same sign (0.0 is not -0.0)
    tolerant    |published - recomputed| <= absolute + relative * |published|

NaN agrees with NaN and with nothing else, an infinity with itself. Differences are taken in decimal arithmetic of 60
digits, so whole numbers beyond 2**53 and decimals that no binary number equals are told apart as written.
"""

from __future__ import annotations

import math
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation

from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

__all__ = ["EXACT", "Agreement", "Number", "Tolerance", "agree", "distance"]

Number: TypeAlias = "int | float | Decimal"
Agreement: TypeAlias = "Literal['same', 'within', 'different']"

_DIGITS = Context(prec=60, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])


@record
class Tolerance:
    """How far a recomputed number may be from the published one. `reason` says why it may, `unit` of what it is."""

    absolute: Number = 0
    relative: Number = 0  # of the published number
    reason: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        for name in ("absolute", "relative"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
                raise InputError(f"the {name} tolerance {value!r} is no number")
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"the {name} tolerance {value} is not a number of 0 or more")

    @property
    def is_exact(self) -> bool:
        """True if nothing but the same value will do."""
        return self.absolute == 0 and self.relative == 0

    def describe(self) -> str:
        """ "relative 1e-09, absolute 0.05 °C (rounded to a tenth)"; "exact"."""
        if self.is_exact:
            return "exact"
        unit = f" {self.unit}" if self.unit else ""
        parts = [
            *([f"relative {self.relative}"] if self.relative else []),
            *([f"absolute {self.absolute}{unit}"] if self.absolute else []),
        ]
        return ", ".join(parts) + (f" ({self.reason})" if self.reason else "")


EXACT = Tolerance()


def agree(published: Number, recomputed: Number, tolerance: Tolerance) -> Agreement:
    """Whether two numbers are the same, within the tolerance of each other, or different."""
    if _is_nan(published) or _is_nan(recomputed):
        return "same" if _is_nan(published) and _is_nan(recomputed) else "different"
    if published == recomputed:  # exact between all kinds of numbers
        is_alike = type(published) is type(recomputed) and _is_negative(published) == _is_negative(recomputed)
        return "same" if is_alike else "different" if tolerance.is_exact else "within"
    if tolerance.is_exact or not (_is_finite(published) and _is_finite(recomputed)):
        return "different"
    size = Decimal(published).copy_abs()
    allowed = _DIGITS.add(_as_written(tolerance.absolute), _DIGITS.multiply(_as_written(tolerance.relative), size))
    off = _DIGITS.abs(_DIGITS.subtract(Decimal(published), Decimal(recomputed)))
    return "within" if off <= allowed else "different"


def distance(published: Number, recomputed: Number) -> tuple[float, float]:
    """How far two numbers are apart: absolutely, and in relation to the published one. NaN where that has no answer."""
    if not (_is_finite(published) and _is_finite(recomputed)):
        return math.nan, math.nan
    off = _DIGITS.abs(_DIGITS.subtract(Decimal(published), Decimal(recomputed)))
    if published == 0:
        return _as_float(off), 0.0 if off == 0 else math.inf
    return _as_float(off), _as_float(_DIGITS.divide(off, Decimal(published).copy_abs()))


def _as_written(number: Number) -> Decimal:
    """A tolerance, for which 0.1 means one tenth."""
    return Decimal(repr(number)) if isinstance(number, float) else Decimal(number)


def _as_float(number: Decimal) -> float:
    try:
        return float(number)
    except (OverflowError, InvalidOperation):
        return math.inf


def _is_nan(number: Number) -> bool:
    return number.is_nan() if isinstance(number, Decimal) else isinstance(number, float) and math.isnan(number)


def _is_finite(number: Number) -> bool:
    return number.is_finite() if isinstance(number, Decimal) else isinstance(number, int) or math.isfinite(number)


def _is_negative(number: Number) -> bool:
    if isinstance(number, Decimal):
        return number.is_signed()
    return math.copysign(1.0, number) < 0 if isinstance(number, float) else number < 0
