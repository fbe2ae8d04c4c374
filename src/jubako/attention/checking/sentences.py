"""What is wrong, in sentences: which step, which batch, head, row and key, by how much, and what would be in bound."""

from __future__ import annotations

import math

from jubako.attention.checking.compare import TINY
from jubako.attention.steps import format_shape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.attention.checking.compare import Comparison
    from jubako.attention.checking.verdicts import LayerReport, StepVerdict

__all__ = ["describe_departure", "describe_place", "failures_of", "number"]

_WORDS = {"B": "batch", "H": "head", "L": "row", "S": "key", "D": "feature", "E": "feature", "HD": "feature"}


def failures_of(layer: LayerReport) -> list[str]:
    """A sentence for each thing that is wrong with a layer; none if it agrees; at other sizes what is new there."""
    found = [layer.broken] if layer.broken else []
    departs = any(run.first_departure is not None for run in layer.runs if not run.sizes)
    for run in layer.runs:
        if run.sizes and departs:
            continue
        if run.broken:
            found.append(f"{run.name}: {run.broken}")
        if run.first_departure is not None:
            found.append(f"{run.name}: {describe_departure(run.first_departure)}")
    found += [trap.sentence for trap in layer.traps if trap.is_failure]
    if not found and not any(run.is_compared for run in layer.runs):
        reasons = [f"{run.name}: {run.refused}" for run in layer.runs if run.refused]
        empty = ", ".join(f"{axis}=0" for axis in dict.fromkeys(axis for run in layer.runs for axis in run.empty_axes))
        said = f"there is nothing to compare: {empty}" if layer.is_empty else "nothing of it could be compared"
        found.append("; ".join([said, *reasons]))
    return found


def describe_departure(verdict: StepVerdict) -> str:
    """ "weights departs at batch 0, head 1, row 3, key 2: 0.25 instead of 0.31, off by 0.06 (4.1e+05 ulp), ..."."""
    told = verdict.told
    if verdict.row_sum is not None and not verdict.row_sum.holds and (told is None or told.holds):
        place = describe_place((*verdict.axes[:-1],), verdict.row_sum.place)
        return (
            f"{verdict.step}: the weights of {place} add up to 1 but for {number(verdict.row_sum.error)}; "
            f"allowed: {number(verdict.row_sum.bound)}"
        )
    if verdict.dropped is not None and not verdict.dropped.holds and (told is None or told.holds):
        share = verdict.dropped
        return (
            f"{verdict.step}: dropout left out {share.zeros:,} of {share.count:,}, and its rate is {number(share.rate)}"
        )
    if told is None:
        right = format_shape(verdict.axes, verdict.right_shape)
        return f"{verdict.step} is {format_shape(verdict.axes, verdict.shape)}, and has to be {right}"
    where = describe_place(verdict.axes, told.place)
    whence = " (what came in was wrong already)" if verdict.origin == "propagated" else ""
    if verdict.verdict == "not_judged":
        return f"{verdict.step} cannot be judged: numbers are so large that no bound can be told for what rounding does"
    if verdict.verdict == "non_finite":
        made = "comes out of finite numbers" if verdict.origin == "producer" else "came in"
        right = f"; {number(told.expected)} is right" if math.isfinite(told.expected) else ""
        return f"{verdict.step} is {told.observed} at {where}, which {made}{right}"
    return f"{verdict.step} departs at {where}: {_describe_numbers(told)}{whence}"


def describe_place(axes: Sequence[str], place: Sequence[int]) -> str:
    """ "batch 0, head 1, row 3, key 2"."""
    if not place:
        return "nowhere"
    return ", ".join(f"{_WORDS[axis]} {index}" for axis, index in zip(axes, place, strict=True))


def number(value: float) -> str:
    """Three digits are enough to see how large something is."""
    return f"{value:.3g}"


def _describe_numbers(told: Comparison) -> str:
    by = abs(told.observed - told.expected)
    digits = 6 if by == 0 or not math.isfinite(by) else min(17, max(4, 3 - math.floor(math.log10(by / _size(told)))))
    shown = " instead of ".join(f"{value:.{digits}g}" for value in (told.observed, told.expected))
    share = f"; {told.out:,} of {told.count:,} numbers are out of bound" if told.out > 1 else ""
    return f"{shown}, off by {number(by)} ({number(told.ulps)} ulp), allowed {number(allowed(told))}{share}"


def allowed(told: Comparison) -> float:
    """The bound as a person is told: what stands for 0 is 0."""
    return 0.0 if told.bound <= TINY else told.bound


def _size(told: Comparison) -> float:
    return max(abs(told.observed), abs(told.expected), 1e-300)
