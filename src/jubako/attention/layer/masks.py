"""The masks of one call as they were given, and what they mean for the scores of one step."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from jubako.attention.layer.plain import merge_masks, shape_mask, to_additive
from jubako.attention.layer.steps import Sizes, Step

__all__ = ["Masks", "add_masks", "count_merged", "find_lengths", "gather_masks", "is_implied_by_causal", "merge"]


class Masks(NamedTuple):
    """`attn` (B or 1, H or 1, L, S) and `padding` (B, S), boolean or additive, or None; and whether keys after a
    query's own are forbidden. Appended keys are in S and forbidden to nobody.
    """

    attn: Tensor | None
    padding: Tensor | None
    is_causal: bool

    @property
    def is_empty(self) -> bool:
        return self.attn is None and self.padding is None and not self.is_causal


def gather_masks(
    attn_mask: Tensor | None, padding: Tensor | None, *, is_causal: bool, sizes: Sizes, may_look: bool
) -> Masks:
    """The masks of a call that was checked, with room for the appended keys.

    `attn_mask` is (L, S) or (B*H, L, S), `padding` (B, S), both without appended keys. `may_look` says that what is
    done may depend on their values: not where a graph is made that is to serve other values, or where there are none.
    """
    if attn_mask is not None and is_causal and may_look and is_implied_by_causal(attn_mask):
        attn_mask = None
    if attn_mask is not None:
        attn_mask = shape_mask(attn_mask, sizes.heads, sizes.appended)
    if padding is not None and sizes.appended:
        padding = F.pad(padding, (0, sizes.appended))
    return Masks(attn_mask, padding, is_causal)


def is_implied_by_causal(attn_mask: Tensor) -> bool:
    """Whether a mask (L, S) forbids and adds nothing to what a causal layer sees, so that it can be left out.

    Encoders of torch hand over a causal mask together with is_causal. Only where looking is cheap: not on a device that
    would have to be waited for, nor where the mask is learnt.
    """
    if attn_mask.dim() != 2 or attn_mask.device.type != "cpu" or attn_mask.requires_grad:
        return False
    return not bool(attn_mask.tril().any())


def find_lengths(masks: Masks) -> list[int] | None:
    """Up to which key each batch entry has one that may be seen; None where all have all, or where looking is dear."""
    padding = masks.padding
    if padding is None or padding.device.type != "cpu" or padding.shape[1] == 0:
        return None
    allowed = ~padding if padding.dtype == torch.bool else padding != float("-inf")
    places = torch.arange(1, padding.shape[1] + 1, device=padding.device)
    found: list[int] = (allowed * places).amax(1).tolist()
    return found


def count_merged(masks: Masks, sizes: Sizes) -> int:
    """How many numbers `merge` makes of these masks."""
    if masks.is_empty:
        return 0
    entries, heads = (1, 1) if masks.attn is None else masks.attn.shape[:2]
    rows = 1 if masks.attn is None and not masks.is_causal else sizes.queries
    return (entries if masks.padding is None else sizes.batch) * heads * rows * sizes.keys


def merge(masks: Masks, like: Tensor, sizes: Sizes) -> Tensor | None:
    """All masks as one additive mask in the dtype of `like`: (B or 1, H or 1, L or 1, S), or None."""
    causal = (sizes.queries, sizes.keys, sizes.appended) if masks.is_causal else None
    return merge_masks(masks.attn, masks.padding, causal, like)


def add_masks(scores: Tensor, masks: Masks, step: Step, sizes: Sizes) -> Tensor | None:
    """Adds to the scores of a step, in place, (b, h, rows, keys), what the masks say; returns which rows see nothing.

    Such rows, (b, h or 1, rows or 1, 1), have no finite score; None where there can be none.
    """
    merged: Tensor | None = None
    if masks.attn is not None:
        attn = masks.attn
        entries = step.batch if attn.shape[0] > 1 else slice(None)
        heads = step.heads if attn.shape[1] > 1 else slice(None)
        merged = to_additive(attn[entries, heads, step.rows, : step.keys], scores.dtype)
    if masks.padding is not None:
        padding = to_additive(masks.padding[step.batch, None, None, : step.keys], scores.dtype)
        merged = padding if merged is None else merged + padding
    if merged is not None:
        scores += merged
    blocked = None if merged is None else merged == float("-inf")
    first, last = step.rows.start, min(step.keys, sizes.keys - sizes.appended)
    if masks.is_causal and first < last:
        later = scores.new_full((step.rows.stop - first, last - first), float("-inf")).triu_(1)
        scores[..., first:last].add_(later)  # "+=" would copy the part onto itself as well
        if blocked is not None:
            blocked = blocked.expand(-1, -1, later.shape[0], -1).clone()
            blocked[..., first:last].logical_or_(later < 0.0)
    return None if blocked is None else blocked.all(-1, keepdim=True)
