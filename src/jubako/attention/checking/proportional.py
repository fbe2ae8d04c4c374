"""Errors of weights, which are in relation to these: not written out, they would take as much memory as the maps."""

from __future__ import annotations

import numpy as np

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.attention.description import Array

__all__ = ["FACTOR", "Proportional"]

FACTOR = 8.0
_WHOLE = 1.01 / FACTOR  # a weight is between 0 and 1: its error is no larger, but for roundings
_LOOSE = 0.1
_LEAST = 5e-324  # a weight that is 0 only for being too small to be written down


@record
class Proportional:
    """An error for each weight: its share `relative` of it, but no more than lets it be anything from 0 to 1."""

    numbers: Array  # (B, H, L, S)
    relative: Array  # (B, H, L, 1); infinite where a weight may be anything
    floor: float
    masked_scores: Array | None = None  # (B, H, L, S): -inf where a key is forbidden, and the weight is 0 and no other

    def part(self, start: tuple[int, ...]) -> Array:
        """The errors at a place, or in a part that starts with these indices."""
        row = (*start[:-1], 0) if len(start) == self.numbers.ndim else start
        numbers, relative = self.numbers[start], self.relative[row]
        if np.max(relative, initial=0.0) > _LOOSE:
            errors = np.minimum(np.maximum(numbers, _LEAST) * relative, _WHOLE) + self.floor
        else:
            errors = numbers * relative + self.floor
        if self.masked_scores is None:
            return errors
        return np.where(np.isneginf(self.masked_scores[start]), 0.0, errors)

    def mean_over_heads(self) -> Array:
        """(B, L, S)."""
        batch, heads, length, keys = self.numbers.shape
        total: Array = np.zeros((batch, length, keys))
        for index, head in np.ndindex(batch, heads):
            total[index] += self.part((index, head))
        return total / max(heads, 1)

    def largest(self) -> float:
        """The largest of them."""
        if self.numbers.size == 0:
            return 0.0
        most = np.maximum(self.numbers.max(axis=-1, keepdims=True), _LEAST) * self.relative
        return min(float(most.max()), _WHOLE) + self.floor
