"""A layer of one file against the same of another: which weights differ, and how far that leads what they compute.

Both are computed in double precision, so what differs comes from the weights alone: from their having been rounded to
another type, say, for which the bounds are those of the less precise of the two.
"""

from __future__ import annotations

import numpy as np

from jubako.attention.checking.judge import Observed, expect, judge
from jubako.attention.checking.sentences import number
from jubako.attention.checking.verdicts import RunReport
from jubako.attention.inputs import arrange
from jubako.attention.reference import derive
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.attention.checking.judge import Call
    from jubako.attention.description import Weights
    from jubako.attention.files.layers import FileLayer
    from jubako.verify.tolerance import Tolerance

__all__ = ["compare_with"]


def compare_with(
    other: FileLayer | None, layer: FileLayer, call: Call, path: str, tolerance: Tolerance | None
) -> RunReport:
    """What the layer of the other file comes to for the same call, with notes of what differs in its weights."""
    name = f"weights of {path}"
    if other is None:
        return _no_match(name, f"there is no layer called {layer.name}")
    if other.broken or other.weights is None or other.settings is None or other.precision is None:
        return _no_match(name, other.broken or other.unknown)
    if other.settings != layer.settings:
        return _no_match(name, f"its layer has other settings: {other.settings} instead of {layer.settings}")
    assert layer.weights is not None
    notes = list(_differences(layer.weights, other.weights))
    if any("shape" in note for note in notes):
        return _no_match(name, "; ".join(notes))
    coarser = max(call.precision, other.precision, key=lambda precision: precision.unit)
    if coarser.name != call.precision.name:  # each weight has been rounded, and that goes into each sum
        coarser = replace(coarser, unit_of_sums=coarser.unit)
    expected = expect(replace(call, precision=coarser))
    inputs = arrange(call.query, call.key, call.value, other.weights, call.settings)
    values = derive(inputs, other.weights, call.settings, expected.fixed.mask).named()
    return judge(Observed(name, values, notes=notes or ("all weights are the same",)), expected, tolerance)


def _no_match(name: str, why: str) -> RunReport:
    """A run that departs before anything is computed."""
    return RunReport(name, broken=why)


def _differences(one: Weights, other: Weights) -> Iterator[str]:
    first, second = one.named(), other.named()
    for part in dict.fromkeys((*first, *second)):
        said = part.replace("_", " ")
        if part not in first or part not in second:
            yield f"{said} has no shape in {'this file' if part not in first else 'that file'}: it is not there"
        elif first[part].shape != second[part].shape:
            yield f"{said} has shape {second[part].shape} instead of {first[part].shape}"
        elif not np.array_equal(first[part], second[part]):
            off = np.abs(first[part].astype(np.float64) - second[part].astype(np.float64))
            count = int(np.count_nonzero(off))
            yield f"{said}: {count:,} of {off.size:,} numbers differ, by {number(float(off.max()))} at most"
