"""Attention computed by NumPy in the type of the weights, each step rounded to it: what a plain program would get.

This is how a bare file of weights is checked without torch: the same layer in the precision of the file against the
reference in double precision. Sums are kept in single precision where the type is half; bfloat16, which NumPy lacks, is
rounded to by hand.
"""

from __future__ import annotations

import numpy as np

from jubako.attention.checking.rederive import Fixed, rederive
from jubako.attention.checking.rounding import round_to
from jubako.attention.inputs import arrange, merge_masks
from jubako.attention.reference import in_double
from jubako.attention.steps import STEP_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.attention.checking.judge import Call
    from jubako.attention.description import Array

__all__ = ["compute"]


def compute(call: Call) -> dict[str, Array]:
    """What each step gives in the precision of the call, in a type that NumPy has and that holds it."""
    dtype = call.precision.name
    sums = np.float64 if dtype == "float64" else np.float32
    inputs = arrange(call.query, call.key, call.value, call.weights, call.settings)
    mask = merge_masks(call.masks, call.settings, inputs.sizes)
    weights = {name: array.astype(sums) for name, array in in_double(call.weights).items()}
    fixed = Fixed(weights, call.settings, None if mask is None else mask.astype(sums))
    values: dict[str, Array] = {
        name: round_to(array, dtype).astype(sums)
        for name, array in (("query", inputs.query), ("key", inputs.key), ("value", inputs.value))
    }
    with np.errstate(over="ignore", invalid="ignore"):
        for step in STEP_NAMES:
            values[step] = round_to(rederive(step, values, fixed), dtype).astype(sums)
    return {step: values[step] for step in STEP_NAMES}
