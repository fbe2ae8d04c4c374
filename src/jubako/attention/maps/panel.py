"""One map to be drawn: its cells as small codes, from which every picture is made, and what is said of its rows.

A code is the square root of a cell's share of the map's largest cell, in `levels` steps: attention is heavy-tailed, and
a root keeps the small ones apart without taking steps from the large. Two codes lie above: a masked cell, and one that
is no number. A map with cells below zero (a difference, or an attention that is wrong) has its zero in the middle.
Blocks of cells become one cell by their extreme, never by their mean: a mean lets diagonals and sinks vanish.
"""

from __future__ import annotations

import numpy as np

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "MASKED",
    "MOST_LEVELS",
    "NOT_FINITE",
    "Coded",
    "Rows",
    "bits_per_cell",
    "count_codes",
    "encode",
    "read_rows",
    "reduce",
]

MOST_LEVELS = 252  # even, for a zero in the middle, and twice its half plus two still fits a byte
MASKED = 254
NOT_FINITE = 255


@record
class Coded:
    """Codes of a map (L, S) uint8. `largest` is the size of the largest cell that is neither masked nor no number."""

    codes: Any
    largest: float
    is_signed: bool
    levels: int

    @property
    def zero(self) -> int:
        return self.levels // 2 if self.is_signed else 0


@record
class Rows:
    """Where each row looks, exactly. `keys` (L, k) int64 are the k largest cells by size, -1 where a row has fewer."""

    keys: Any
    values: Any  # (L, k), of the map's type; 0 where there is no key
    entropy: Any  # (L,) float64, bits; of a signed map half the sum of sizes: the weight that has moved
    first: Any  # (L,), of the map's type: what the first key has, the sink
    masked: Any  # (L,) float64, the weight on keys that are masked, which should be nothing


def encode(weights: Any, masked: Any, levels: int = MOST_LEVELS) -> Coded:
    """The codes of a map. `weights` (L, S) floats; `masked` (L, S) bool or None; `levels` an even number."""
    unusable = _find_unusable(weights, masked)  # (L, S)
    cells = weights if unusable is None else np.where(unusable, 0, weights)  # (L, S)
    low, high = float(cells.min()), float(cells.max())
    largest = max(high, -low)
    is_signed = low < 0
    steps = levels // 2 if is_signed else levels
    size = np.abs(cells) if is_signed else cells  # (L, S)
    root = np.sqrt(size / np.asarray(largest or 1, weights.dtype))  # (L, S), 0 to 1
    codes = np.rint(root * steps).astype(np.uint8)  # (L, S)
    if is_signed:
        codes = np.where(cells < 0, steps - codes, steps + codes).astype(np.uint8)  # (L, S)
    if unusable is not None:
        codes[unusable] = NOT_FINITE
        if masked is not None:
            codes[masked & ~_is_broken(weights, masked)] = MASKED
    return Coded(codes, largest, is_signed, levels)


def reduce(coded: Coded, rows: int, columns: int) -> Any:
    """The codes of at most `rows` by `columns` blocks: of each the cell furthest from zero, or no number."""
    codes = coded.codes.astype(np.int16)  # (L, S)
    from_zero = 2 * np.abs(codes - coded.zero) + (codes > coded.zero)  # (L, S), the last bit is the sign
    order = np.where(codes == MASKED, -1, np.where(codes == NOT_FINITE, 1024, from_zero))
    for axis, most in ((0, rows), (1, columns)):
        length = order.shape[axis]
        count = min(length, most)
        order = np.maximum.reduceat(order, np.arange(count) * length // count, axis=axis)
    back = coded.zero + (order >> 1) * np.where(order & 1, 1, -1)
    return np.where(order == -1, MASKED, np.where(order == 1024, NOT_FINITE, back)).astype(np.uint8)


def count_codes(coded: Coded) -> Any:
    """How many cells have each of the 256 codes."""
    return np.bincount(coded.codes.reshape(-1), minlength=256)


def bits_per_cell(counts: Any) -> float:
    """What a cell of several maps takes on average when each map is packed well. `counts` (maps, codes)."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    return float(-(shares * np.log2(np.where(shares > 0, shares, 1))).sum() / len(counts))


def read_rows(weights: Any, masked: Any, most: int) -> Rows:
    """What is said of the rows of a map: their `most` largest cells, the earlier key first where two are the same."""
    unusable = _find_unusable(weights, masked)  # (L, S)
    cells = weights if unusable is None else np.where(unusable, 0, weights)  # (L, S)
    is_signed = bool((cells < 0).any())
    size = np.abs(cells).astype(weights.dtype)  # (L, S)
    if unusable is not None:
        size[unusable] = -1
    lines = np.arange(len(cells))
    count = min(most, cells.shape[1])
    keys = np.empty((len(cells), count), np.int64)  # (L, k)
    for place in range(count):
        keys[:, place] = size.argmax(axis=1)
        keys[size[lines, keys[:, place]] < 0, place] = -1
        size[lines, keys[:, place]] = -1
    values = np.where(keys < 0, 0, cells[lines[:, None], keys]).astype(weights.dtype)  # (L, k)
    wide = cells.astype(np.float64)  # (L, S)
    entropy = np.abs(wide).sum(axis=1) / 2 if is_signed else _entropy(wide)  # (L,)
    if unusable is not None:
        entropy = np.where(_is_broken(weights, masked).any(axis=1), np.nan, entropy)
    hidden = np.zeros(len(cells)) if masked is None else _weight_on(weights, masked)  # (L,)
    return Rows(keys, values, entropy, weights[:, 0], hidden)


def _entropy(weights: Any) -> Any:
    """Bits of each row: the sum of -p log2 p, where p is a cell as it is. (L, S) -> (L,)"""
    return np.maximum(-(weights * np.log2(np.where(weights > 0, weights, 1))).sum(axis=1), 0)


def _weight_on(weights: Any, masked: Any) -> Any:
    """The size of all that is on masked cells of each row, -inf (a masked score) and NaN left out. (L, S) -> (L,)"""
    cells = np.where(masked & np.isfinite(weights), weights, 0).astype(np.float64)  # (L, S)
    return np.abs(cells).sum(axis=1)


def _is_broken(weights: Any, masked: Any) -> Any:
    """Which cells are no numbers; an infinity at a masked cell is how scores are masked, and no fault. (L, S)"""
    broken = ~np.isfinite(weights)
    return broken if masked is None else broken & (~masked | np.isnan(weights))


def _find_unusable(weights: Any, masked: Any) -> Any:
    """Which cells are masked or no numbers (L, S); None if none is."""
    finite = np.isfinite(weights)
    if masked is None:
        return None if finite.all() else ~finite
    return masked | ~finite
