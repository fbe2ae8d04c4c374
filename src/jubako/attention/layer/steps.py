"""How the scores of all heads are cut into steps that fit a processor's cache.

A step is some batch entries, some heads and some query rows, with all keys, so a softmax needs no second look. Heads
turn fastest: the averaged map of some rows is finished, head after head, while it is in the cache.

The values passed around here and beside are named tuples, which torch.compile can see through.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Sizes", "Step", "plan_steps"]

STEP_BYTES = 8 << 20  # of scores; a step of less takes its time from calls, one of more leaves the cache
MOST_ROWS = 256  # of a step that has not all heads: products of more rows are hardly faster
LEAST_ROWS = 16  # a product of fewer is no longer bound by arithmetic
CAUSAL_PARTS = 16  # into which the rows of a causal layer are cut, to skip what lies above the diagonal,
CAUSAL_ROW_BYTES = 512  # but rows times bytes of a number are no fewer: small products cost more than they spare


class Sizes(NamedTuple):
    """The axes of the scores: batch entries, heads, query rows, keys (those appended included), size of a head."""

    batch: int
    heads: int
    queries: int
    keys: int
    head_dim: int
    appended: int = 0


class Step(NamedTuple):
    """What one step covers, as half-open ranges, and how many keys of it may be seen at all."""

    number: int
    batch: slice
    heads: slice
    rows: slice
    keys: int

    @property
    def is_first_of_rows(self) -> bool:
        return bool(self.heads.start == 0)

    def is_last_of_rows(self, sizes: Sizes) -> bool:
        return bool(self.heads.stop == sizes.heads)


def plan_steps(
    sizes: Sizes, step_bytes: int, item_bytes: int, *, is_causal: bool, lengths: list[int] | None = None
) -> Iterator[Step]:
    """The steps in the order in which they are done, the same each time; each of `step_bytes` of scores if it can be.

    `lengths` says up to which key each batch entry has one that may be seen; the rest is skipped, and so are keys that
    no row of a causal step sees, unless keys were appended after them.
    """
    most = step_bytes // item_bytes
    of_row = max(1, sizes.keys)
    rows = max(LEAST_ROWS, min(MOST_ROWS, most // of_row), most // (max(1, sizes.heads) * of_row))
    rows = min(rows, max(1, sizes.queries))
    if is_causal:
        rows = min(rows, max(CAUSAL_ROW_BYTES // item_bytes, sizes.queries // CAUSAL_PARTS))
    heads = _divide(sizes.heads, most // (rows * of_row))
    batch = 1
    if heads == sizes.heads and rows == sizes.queries:
        batch = _divide(sizes.batch, most // (heads * rows * of_row))
    number = 0
    for b in range(0, sizes.batch, batch):
        entries = slice(b, min(sizes.batch, b + batch))
        for i in range(0, sizes.queries, rows):
            stop = min(sizes.queries, i + rows)
            keys = sizes.keys if lengths is None else max(lengths[entries], default=0)
            if is_causal and not sizes.appended:
                keys = min(keys, stop)
            for h in range(0, sizes.heads, heads):
                yield Step(number, entries, slice(h, min(sizes.heads, h + heads)), slice(i, stop), keys)
                number += 1


def _divide(count: int, most: int) -> int:
    """How many of `count` go into each of as few equal parts as there can be of at most `most`; at least one."""
    parts = -(-count // max(1, most))
    return max(1, -(-count // max(1, parts)))
