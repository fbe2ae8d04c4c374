"""How far queries or keys may be off after they were normalised.

A row x becomes y = g x / r, where r is the root of its mean square, and g the weights. An error e of x moves y by
g e / r, and through r by y times sum(x e) / (N r^2), of which terms are independent: their squares add up. A norm that
takes the mean off first does all of this with what is left, which is off by what the mean was rounded by, too.
"""

from __future__ import annotations

import numpy as np

from jubako.attention.checking.proportional import FACTOR
from jubako.attention.reference import by_head, is_norm_of_all_heads, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from jubako.attention.checking.precision import Precision
    from jubako.attention.description import Array, Norm, Settings

__all__ = ["expected_error_of_norm"]

_ROUNDINGS = 4.0  # of sums: epsilon, the root, its inverse, the product
_SMALL = 0.5  # what the root may be off by, in relation to itself, as long as it is told by its first derivative


def expected_error_of_norm(
    which: str,
    values: Mapping[str, Array],
    before: Array | None,
    weights: Mapping[str, Array],
    settings: Settings,
    precision: Precision,
) -> Array:
    """Of the query or key cut into its own heads, (B, H, L, D); `before` is what its projection is off by."""
    x = values[f"{which}_projection"]  # (B, L, H*D)
    heads = settings.heads if which == "query" else settings.groups
    error = np.zeros(x.shape) if before is None else before
    weight, bias = weights[f"{which}_norm"], weights.get(f"{which}_norm_bias")
    if is_norm_of_all_heads(weight, x.shape[-1]):
        return split(_of_rows(x, error, weight, bias, settings.norm, precision), heads)
    return _of_rows(split(x, heads), split(error, heads), by_head(weight), by_head(bias), settings.norm, precision)


def _of_rows(x: Array, error: Array, weight: Array, bias: Array | None, norm: Norm, precision: Precision) -> Array:
    """(..., N)."""
    terms = x.shape[-1]
    if norm.takes_mean:
        own = precision.rounding_of_sum(terms) * np.sqrt(np.square(x).mean(axis=-1, keepdims=True))
        of_mean = np.sqrt(np.square(error).sum(axis=-1, keepdims=True)) / terms
        error = np.hypot(np.hypot(error, of_mean), own + precision.unit_of_sums * np.abs(x))
        x = x - x.mean(axis=-1, keepdims=True)
    mean_square = np.square(x).mean(axis=-1, keepdims=True) + norm.epsilon  # (..., 1)
    mean_square = np.maximum(mean_square, np.finfo(np.float64).tiny)
    gain = np.abs(weight + norm.offset)
    share = np.sqrt(np.square(x * error).sum(axis=-1, keepdims=True)) / (terms * mean_square)  # of the root, relative
    relative = share + 0.5 * precision.rounding_of_sum(terms) + _ROUNDINGS * precision.unit_of_sums
    size = gain * np.abs(x) / np.sqrt(mean_square)  # (..., N)
    found = np.hypot(gain * error / np.sqrt(mean_square), size * relative) + 2 * precision.rounding * size
    if bias is not None:
        found = found + precision.rounding * (size + np.abs(bias))
    found = np.where(FACTOR * share > _SMALL, np.maximum(found, 2 * gain * terms**0.5), found)  # it may be anything
    return found + precision.floor
