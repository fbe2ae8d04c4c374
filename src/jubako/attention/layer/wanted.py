"""What may be asked of a pass besides its output, and the record in which it comes back."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Attended", "Want"]


class Want(NamedTuple):
    """What a pass is to give besides its output; nothing if nothing is named.

    The maps, the sums and the top keys are of the weights that the values were multiplied with, dropout included, as
    torch returns them. The entropy is of the weights before dropout, which are a distribution.
    """

    averaged: bool = False
    per_head: bool = False
    column_sums: bool = False
    row_entropy: bool = False
    top_keys: int = 0


class Attended(NamedTuple):
    """The output of a pass and what was asked for besides; the rest is None. Unbatched inputs drop B everywhere.

    `output` is (B, L, E), or (L, B, E) without batch_first, in the dtype of the layer. `averaged` is the mean of the
    weights over heads, (B, L, S); `per_head` are the weights, (B, H, L, S); both as the layer's forward returns them.
    `column_sums` says how much all queries together look at a key, (B, H, S), and `row_entropy` how widely a query
    looks, in nats, (B, H, L); these two are float32 for layers of a lower precision. `top_keys` are the most looked-at
    keys of each query, the first of them first, int64, (B, H, L, K), with their weights, `top_weights`, (B, H, L, K);
    K is what was asked for, or S if that is less. Gradients flow through all of them but the keys and their weights.
    """

    output: Tensor
    averaged: Tensor | None = None
    per_head: Tensor | None = None
    column_sums: Tensor | None = None
    row_entropy: Tensor | None = None
    top_keys: Tensor | None = None
    top_weights: Tensor | None = None
