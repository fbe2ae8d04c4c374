"""What a causal module of the transformers library lets its rows see: its masks are made by the model around it.

The check takes a mask as it comes, since nobody but the model knows what it is to say. But a module that calls itself
causal, and a mask that lets each row see one key after its own, or all of them, do not go together.
"""

from __future__ import annotations

import numpy as np

from jubako.attention.checking.variants import forbids
from jubako.attention.checking.verdicts import Trap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.attention.checking.judge import Call
    from jubako.attention.description import Array

__all__ = ["find_seen_futures"]


def find_seen_futures(module: Any, call: Call) -> list[Trap]:
    """A trap if the mask of a module that is causal lets rows see keys after their own.

    It is a failure where all rows see just one key further, or all there are: no model means that. Others may: a model
    that sees the parts of an image together, or a mask that the caller has made.
    """
    mask = call.masks.attention
    inner = getattr(module, "self", module)
    if mask is None or mask.ndim < 2 or not getattr(inner, "is_causal", False) or call.key is not call.query:
        return []
    seen = ~forbids(mask)
    length, first = seen.shape[-2], call.settings.past_length
    own = seen[..., first : first + length]  # (..., L, L): the keys of this call
    if own.shape[-1] != length or length < 2:
        return []
    is_real = np.diagonal(own, axis1=-2, axis2=-1)[..., None, :]  # a key that its own row sees: no padding
    later = np.triu(np.ones((length, length), bool), 1) & is_real & np.swapaxes(is_real, -1, -2)
    rows = later.any(-1)
    found = own & later
    seeing = found.any(-1) & rows
    if not seeing.any():
        return []
    counted = f"{int(seeing.sum())} of {int(rows.sum())} rows"
    if seeing.sum() == rows.sum() and (how := _describe(found, later)):
        return [Trap("future_seen", f"the module is causal, and its mask lets every row see {how}", is_failure=True)]
    sentence = f"the module is causal, and its mask lets {counted} see keys after their own; it is taken as it is"
    return [Trap("future_seen", sentence, is_failure=False)]


def _describe(found: Array, later: Array) -> str:
    if np.array_equal(found, later):
        return "all keys after its own"
    next_ones = later & (np.cumsum(later, axis=-1) == 1)
    return "one key after its own" if np.array_equal(found, next_ones) else ""
