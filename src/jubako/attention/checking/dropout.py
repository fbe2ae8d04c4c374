"""Weights after dropout: each is what it was, scaled up, or left out; and about as many are left out as the rate says.

How many of n are left out by chance is binomial. The share of them is held to be too far from the rate where Chernoff's
bound, exp(-n D) with D the relative entropy of the two, says of either side that it comes up less than once in 2e9.
"""

from __future__ import annotations

import math

import numpy as np

from jubako.attention.checking.compare import compare
from jubako.attention.checking.proportional import FACTOR
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.attention.checking.compare import Comparison
    from jubako.attention.checking.precision import Precision
    from jubako.attention.checking.proportional import Proportional
    from jubako.attention.description import Array
    from jubako.verify.tolerance import Tolerance

__all__ = ["DroppedShare", "compare_dropped", "share_of_dropped"]

_UNLIKELY = 2e9


@record
class DroppedShare:
    """How many weights dropout left out, of those that were large enough to tell."""

    zeros: int
    count: int
    rate: float  # what it should leave out

    @property
    def holds(self) -> bool:
        """True if chance may do that."""
        return self.count * _relative_entropy(self.zeros / max(self.count, 1), self.rate) < math.log(_UNLIKELY)


def compare_dropped(
    dropped: Array,
    weights: Array,
    errors: Proportional | None,
    rate: float,
    precision: Precision,
    tolerance: Tolerance | None,
) -> Comparison:
    """What is not left out, against the weights before, (B, H, L, S), which may be off by `errors` if there are any."""
    kept = dropped != 0
    scale = 1.0 / (1.0 - rate) if rate < 1 else 0.0
    scaled = np.where(kept, weights * scale, 0.0)
    error = 2 * precision.rounding * scaled + precision.floor * (scaled != 0)
    if errors is not None:
        error += np.where(kept, errors.part(()) * scale, 0.0)
    return compare(dropped, scaled, error, precision, tolerance)


def share_of_dropped(
    dropped: Array, weights: Array, errors: Proportional | None, rate: float, precision: Precision
) -> DroppedShare:
    """How many are left out of the weights that are not 0 by rounding."""
    least = weights if errors is None else weights - FACTOR * errors.part(())
    is_there = least > FACTOR * precision.floor
    return DroppedShare(int(np.count_nonzero(is_there & (dropped == 0))), int(np.count_nonzero(is_there)), rate)


def _relative_entropy(share: float, rate: float) -> float:
    """Of one Bernoulli distribution to another, in nats."""
    total = 0.0
    for own, other in ((share, rate), (1 - share, 1 - rate)):
        if own > 0:
            total += own * math.log(own / other) if other > 0 else math.inf
    return total
