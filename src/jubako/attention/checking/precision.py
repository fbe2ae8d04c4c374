"""Data types as far as rounding goes: the unit roundoff of what is stored, and of what sums are kept in."""

from __future__ import annotations

import math

from jubako.errors import InputError
from jubako.records import record

__all__ = ["PRECISIONS", "Precision", "precision_of"]


@record
class Precision:
    """How finely a type rounds. Layers in half precision add up in single precision, on every processor there is."""

    name: str
    unit: float  # half the distance from 1 to the next number: the largest relative error of one rounding
    unit_of_sums: float
    floor: float  # the largest absolute error of rounding what is too small for the type
    largest: float

    def rounding_of_sum(self, terms: int) -> float:
        """The expected error of a sum of so many products, relative to the lengths of the two vectors multiplied.

        Each partial sum is rounded, up as often as down. Where terms have random signs that comes to 0.3 units,
        however many they are; where the first is far larger than the rest, to 0.3 units times the root of their number
        (a kernel that adds in several places at once, as all do, has less).
        """
        return self.unit_of_sums * (0.3 + 0.25 * math.sqrt(terms))

    def loss_of_sum(self, terms: int) -> float:
        """The largest error of a sum of so many products that are too small for the type it is kept in."""
        return terms * (2.0**-1022 if self.unit_of_sums < 2.0**-40 else 2.0**-126)

    @property
    def rounding(self) -> float:
        """The expected relative error of rounding one number to what is stored."""
        return 0.4 * self.unit

    def ulp(self, number: float) -> float:
        """The distance between the numbers of this type around `number`."""
        if number == 0 or not math.isfinite(number):
            return 2 * self.floor
        return max(math.ldexp(self.unit, math.frexp(number)[1]), 2 * self.floor)


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("float64", 2.0**-53, 2.0**-53, 2.0**-1022, 1.7976931348623157e308),
        Precision(
            "float32", 2.0**-24, 2.0**-24, 2.0**-126, 3.4028234663852886e38
        ),  # kernels may take subnormal numbers for zeros
        Precision("float16", 2.0**-11, 2.0**-24, 2.0**-25, 65504.0),
        Precision("bfloat16", 2.0**-8, 2.0**-24, 2.0**-126, 3.3895313892515355e38),
    )
}


def precision_of(name: str) -> Precision:
    """The precision of a type by its name. InputError for one that attention is not computed in."""
    try:
        return PRECISIONS[name]
    except KeyError:
        raise InputError(f"attention in {name} is not checked: it can be {', '.join(PRECISIONS)}") from None
