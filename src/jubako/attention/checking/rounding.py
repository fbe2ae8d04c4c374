"""Numbers rounded to a type, also to one that NumPy does not have: bfloat16 is kept in single precision here."""

from __future__ import annotations

import numpy as np

from jubako.verify.weight_file import from_bfloat16

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.attention.description import Array

__all__ = ["round_to", "to_bfloat16"]


def round_to(array: Array, dtype: str) -> Array:
    """Each number as the nearest of type `dtype`, the even one of two that are as near; as a type that NumPy has."""
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return array.astype(dtype)
    return from_bfloat16(to_bfloat16(array))


def to_bfloat16(array: Array) -> Array:
    """The bits of the nearest bfloat16 (uint16)."""
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(array, dtype=np.float32)
    bits = single.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(single), 0x7FC0, rounded).astype(np.uint16)
