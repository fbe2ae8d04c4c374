"""A layer of one file against the same of another: which weights differ, and how far that leads what they compute.

Both are computed in double precision, so what differs comes from the weights alone: from their having been rounded to
another type, say, for which the bounds are those of the less precise of the two.
"""

from __future__ import annotations

import numpy as np

from jubako.attention.checking.judge import Observed
from jubako.attention.checking.sentences import number
from jubako.attention.inputs import arrange, merge_masks
from jubako.attention.reference import derive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.attention.checking.judge import Call
    from jubako.attention.description import Weights
    from jubako.attention.files.layers import FileLayer

__all__ = ["compare_with"]


def compare_with(other: FileLayer | None, layer: FileLayer, call: Call, path: str) -> Observed:
    """What the layer of the other file gives for the same call, and notes of what differs in its weights."""
    name = f"weights of {path}"
    if other is None:
        return Observed(name, refused=f"it has no layer called {layer.name}")
    if other.broken or other.weights is None or other.settings is None or other.precision is None:
        return Observed(name, refused=other.broken)
    if other.settings != layer.settings:
        return Observed(name, refused=f"its layer has other settings: {other.settings} instead of {layer.settings}")
    assert layer.weights is not None
    notes = list(_differences(layer.weights, other.weights))
    if any("shape" in note for note in notes):
        return Observed(name, refused="; ".join(notes))
    inputs = arrange(call.query, call.key, call.value, other.weights, call.settings)
    mask = merge_masks(call.masks, call.settings, inputs.sizes)
    values = derive(inputs, other.weights, call.settings, mask).named()
    return Observed(name, values, notes=notes or ("all weights are the same",))


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
