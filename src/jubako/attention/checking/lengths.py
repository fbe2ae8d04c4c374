"""How large rows of numbers are, in the ways that bounds need, for numbers of any size."""

from __future__ import annotations

import numpy as np

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.attention.description import Array

__all__ = ["largest_of_rows", "lengths_of", "longest", "longest_row", "mean_sizes", "root_of_squares", "span_of_rows"]

_SMALLEST_SQUARED = 1e-140  # a length whose square is exact as far as it matters


def root_of_squares(before: Array, weight: Array) -> Array:
    """The root of the sum of squares of products: (B, L, in) with (out, in) gives (B, L, out)."""
    rows = before.max(axis=-1, keepdims=True, initial=0.0)  # (B, L, 1)
    largest = weight.max(initial=0.0)
    scaled = [
        np.square(np.divide(a, size, out=np.zeros(a.shape), where=size > 0))
        for a, size in ((before, rows), (weight, largest))
    ]
    return np.sqrt(scaled[0] @ scaled[1].T) * rows * largest


def lengths_of(rows: Array) -> Array:
    """The Euclidean length of each row, also where squares of its numbers would be too large, or too small."""
    lengths: Array = np.sqrt(np.einsum("...d,...d->...", rows, rows))
    if rows.size and not _SMALLEST_SQUARED < lengths.min() <= lengths.max() < np.inf:
        largest = np.abs(rows).max(axis=-1, keepdims=True)
        scaled = np.divide(rows, largest, out=np.zeros(rows.shape), where=largest > 0)
        return np.sqrt(np.einsum("...d,...d->...", scaled, scaled)) * largest[..., 0]
    return lengths


def mean_sizes(rows: Array) -> Array:
    return lengths_of(rows) / max(rows.shape[-1], 1) ** 0.5


def longest(lengths: Array) -> Array:
    """(B, H, S) as (B, H, 1, 1)."""
    return lengths.max(axis=-1, initial=0.0)[..., None, None]


def span_of_rows(values: Array) -> Array:
    """How far the rows of values lie apart: (B, H, S, D) as (B, H, 1, D)."""
    if values.shape[-2] == 0:
        return np.zeros((*values.shape[:-2], 1, values.shape[-1]))
    return values.max(axis=-2, keepdims=True) - values.min(axis=-2, keepdims=True)


def longest_row(errors: Array) -> Array:
    """(B, H, S, D) as (B, H, 1, D)."""
    return errors.max(axis=-2, keepdims=True, initial=0.0)


def largest_of_rows(scores: Array) -> Array:
    """(B, H, L, S) as (B, H, L, 1)."""
    if scores.shape[-1] == 0:
        return np.zeros((*scores.shape[:-1], 1))
    return np.maximum(scores.max(axis=-1, keepdims=True), -scores.min(axis=-1, keepdims=True))
