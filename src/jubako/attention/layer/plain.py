"""The steps of the layer as plain functions of tensors, which TorchScript compiles and every transform can follow.

`project` makes heads of the inputs, `merge_masks` one additive mask of all masks, `attend` the weights and the context.
The layer's own pass over blocks uses the first of them and gives the same numbers as the last without ever holding all
weights at once; this one is for scripting, `torch.compile`, `torch.export`, tracing, `torch.func`, forward-mode
derivatives, and second derivatives.

Nothing here may use what TorchScript lacks: records, comprehensions over tensors, keyword-only arguments.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "add_batch",
    "append_keys",
    "attend",
    "draw_kept",
    "entropy",
    "join_heads",
    "merge_masks",
    "project",
    "require_fit",
    "require_masks_fit",
    "scale",
    "shape_mask",
    "split_heads",
    "to_additive",
]


def add_batch(query: Tensor, key: Tensor, value: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs with a batch axis of one entry; those that are one tensor stay one tensor."""
    batched = query.unsqueeze(axis)
    if query is key and key is value:
        return batched, batched, batched
    keys = key.unsqueeze(axis)
    return batched, keys, keys if key is value else value.unsqueeze(axis)


def require_fit(query: Tensor, key: Tensor, value: Tensor, batch_first: bool) -> None:
    """Raises RuntimeError unless the axes of the inputs fit each other: products would repeat those of size 1."""
    rank = query.dim()
    if rank not in (2, 3) or key.dim() != rank or value.dim() != rank:
        raise RuntimeError("query, key and value were expected to have 3 axes each, or, unbatched, 2")
    if key.shape[:-1] != value.shape[:-1]:
        raise RuntimeError("key and value differ in B or S")
    batch = 0 if batch_first else 1
    if rank == 3 and key.size(batch) != query.size(batch):
        raise RuntimeError("key and query differ in B")


def require_masks_fit(query: Tensor, key: Tensor, masks: list[Tensor | None], heads: int, batch_first: bool) -> None:
    """Raises RuntimeError unless the masks, for padding (B, S) and for attention, fit the batched query and key."""
    rows, batch = (1, 0) if batch_first else (0, 1)
    entries, length, keys = query.size(batch), query.size(rows), key.size(rows)
    padding, attn_mask = masks[0], masks[1]
    if padding is not None:
        if padding.dim() != 2 or padding.size(0) != entries or padding.size(1) != keys:
            raise RuntimeError("key_padding_mask was expected to be (B, S), or, unbatched, (S)")
        if padding.dtype != torch.bool and not padding.is_floating_point():
            raise RuntimeError("key_padding_mask is neither boolean nor floating")
    if attn_mask is not None:
        if attn_mask.dim() not in (2, 3) or attn_mask.size(-2) != length or attn_mask.size(-1) != keys:
            raise RuntimeError("attn_mask was expected to be (L, S) or (B*H, L, S)")
        if attn_mask.dim() == 3 and attn_mask.size(0) != entries * heads:
            raise RuntimeError("attn_mask was expected to be (L, S) or (B*H, L, S)")
        if attn_mask.dtype != torch.bool and not attn_mask.is_floating_point():
            raise RuntimeError("attn_mask is neither boolean nor floating")


def project(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    weights: list[Tensor | None],
    bias: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The projected query, key and value, each (..., E), by as few products as the inputs allow.

    `weights` are those of query, key and value, (E, E), (E, kdim) and (E, vdim), or all in one, (3E, E), and two None.
    `bias` is (3E) or None.
    """
    weight, key_weight, value_weight = weights[0], weights[1], weights[2]
    assert weight is not None
    embed_dim = weight.size(1)
    query_bias: Tensor | None = None
    key_bias: Tensor | None = None
    value_bias: Tensor | None = None
    if key_weight is None or value_weight is None:
        if key is value and query is key:
            packed = F.linear(query, weight, bias).chunk(3, -1)
            return packed[0], packed[1], packed[2]
        if key is value:
            if bias is not None:
                query_bias, key_bias = bias[:embed_dim], bias[embed_dim:]
            packed = F.linear(key, weight[embed_dim:], key_bias).chunk(2, -1)
            return F.linear(query, weight[:embed_dim], query_bias), packed[0], packed[1]
        parts = weight.chunk(3)
        weight, key_weight, value_weight = parts[0], parts[1], parts[2]
    if bias is not None:
        parts = bias.chunk(3)
        query_bias, key_bias, value_bias = parts[0], parts[1], parts[2]
    return (
        F.linear(query, weight, query_bias),
        F.linear(key, key_weight, key_bias),
        F.linear(value, value_weight, value_bias),
    )


def split_heads(projected: Tensor, num_heads: int, batch_first: bool) -> Tensor:
    """A view (B, H, L, D) of what is (B, L, E), or (L, B, E) without `batch_first`; heads are slices of E in order."""
    heads = torch.unflatten(projected, -1, [num_heads, projected.size(-1) // num_heads])
    return heads.permute(0, 2, 1, 3) if batch_first else heads.permute(1, 2, 0, 3)


def scale(q: Tensor) -> Tensor:
    """The queries divided by the square root of their size; scores are products of these with the keys."""
    return torch.mul(q, q.size(-1) ** -0.5)


def join_heads(context: Tensor, batch_first: bool) -> Tensor:
    """The context (B, H, L, D) as (B, L, E), or (L, B, E) without `batch_first`."""
    return (context.permute(0, 2, 1, 3) if batch_first else context.permute(2, 0, 1, 3)).flatten(2)


def append_keys(heads: Tensor, extra: Tensor | None, add_zero: bool) -> Tensor:
    """The keys or values (B, H, S, D) with a learnt row, `extra` (1, 1, E), and a row of zeros after them."""
    parts = [heads]
    if extra is not None:
        row = extra.to(heads.dtype).view(1, heads.size(1), 1, heads.size(3))
        parts.append(row.expand(heads.size(0), -1, -1, -1))
    if add_zero:
        parts.append(heads.new_zeros([heads.size(0), heads.size(1), 1, heads.size(3)]))
    return torch.cat(parts, 2) if len(parts) > 1 else heads


def shape_mask(attn_mask: Tensor, heads: int, appended: int) -> Tensor:
    """The mask (L, S) or (B*H, L, S) as (B or 1, H or 1, L, S plus appended keys, which it leaves alone)."""
    shaped = torch.unflatten(attn_mask, 0, [-1, heads]) if attn_mask.dim() == 3 else attn_mask.unsqueeze(0).unsqueeze(0)
    return F.pad(shaped, [0, appended]) if appended else shaped


def draw_kept(q: Tensor, k: Tensor, dropout: float) -> Tensor | None:
    """What dropout multiplies the weights with, (B, H, L, S): 0, or 1 / (1 - p); None without dropout."""
    if dropout == 0.0:
        return None
    return F.dropout(q.new_ones([q.size(0), q.size(1), q.size(2), k.size(2)]), dropout)


def to_additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask as what is added to scores: a boolean one forbids where it is True."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))
    return mask.to(dtype)


def merge_masks(
    attn_mask: Tensor | None, padding: Tensor | None, causal: tuple[int, int, int] | None, like: Tensor
) -> Tensor | None:
    """One mask for the scores, in the dtype and on the device of `like`: (B or 1, H or 1, L or 1, S), or None.

    `attn_mask` is (B or 1, H or 1, L, S), `padding` (B, S), both boolean or additive. `causal` holds L, S, and how many
    of the S keys were appended, which every query sees: query i sees the others up to key i.
    """
    merged: Tensor | None = None
    if attn_mask is not None:
        merged = to_additive(attn_mask, like.dtype)
    if padding is not None:
        added = to_additive(padding, like.dtype).unsqueeze(1).unsqueeze(1)
        merged = added if merged is None else merged + added
    if causal is not None:
        length, keys, appended = causal
        rows = torch.arange(length, device=like.device).unsqueeze(1)
        columns = torch.arange(keys, device=like.device).unsqueeze(0)
        forbidden = torch.logical_and(columns > rows, columns < keys - appended)
        if merged is None:
            merged = to_additive(forbidden, like.dtype).unsqueeze(0).unsqueeze(0)
        else:
            merged = merged.masked_fill(forbidden, float("-inf"))
    return merged


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, kept: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The context (B, H, L, D), the weights applied, and the weights before dropout, both (B, H, L, S).

    The queries are scaled. `mask` is additive. `kept` is what dropout multiplies the weights with, (B, H, L, S), or
    None. A query that may see no key has weights and a context of zeros, and passes no gradient on.
    """
    scores = torch.matmul(q, k.transpose(-2, -1))
    if mask is None:
        weights = torch.softmax(scores, -1)
    else:
        blind = (mask == float("-inf")).all(-1, keepdim=True)
        weights = torch.softmax((scores + mask).masked_fill(blind, 0.0), -1).masked_fill(blind, 0.0)
    applied = weights if kept is None else weights * kept
    return torch.matmul(applied, v), applied, weights


def entropy(weights: Tensor) -> Tensor:
    """The entropy of each row of weights in nats; a weight of 0 adds nothing, to the gradient neither."""
    return -(weights * weights.masked_fill(weights == 0.0, 1.0).log()).sum(-1)
