"""The ways in which a pass is done: by torch's fused attention, or in steps, with gradients if they are asked for."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from jubako.attention.layer import plain
from jubako.attention.layer.blocks import Pass, run_forward
from jubako.attention.layer.compiled import is_kernel_fit, run_kernel
from jubako.attention.layer.gradient import run_with_gradient
from jubako.attention.layer.masks import Masks, count_merged, merge
from jubako.attention.layer.wanted import Attended, Want

__all__ = ["is_fused", "lay_out", "run_fused", "run_in_steps"]


def is_fused(query: Tensor, masks: Masks, todo: Pass) -> bool:
    """Whether torch's fused attention does it: nothing but the context is wanted, of something.

    On a processor that one holds all weights where there is dropout, or a mask that is learnt or of each head, and it
    is handed one mask, which may be far larger than the masks that were given. Steps do neither.
    """
    if todo.want != Want() or 0 in (todo.sizes.batch, todo.sizes.queries, todo.sizes.keys):
        return False
    if query.device.type != "cpu":
        return True
    given = [mask for mask in (masks.attn, masks.padding) if mask is not None]
    if todo.dropout > 0.0 or any(mask.requires_grad for mask in given):
        return False
    if masks.attn is not None and masks.attn.shape[:2] != (1, 1):
        return False
    return _is_only_causal(masks, todo) or count_merged(masks, todo.sizes) <= sum(mask.numel() for mask in given)


def _is_only_causal(masks: Masks, todo: Pass) -> bool:
    return masks.is_causal and masks.attn is None and masks.padding is None and not todo.sizes.appended


def run_fused(q: Tensor, k: Tensor, v: Tensor, masks: Masks, todo: Pass) -> Attended:
    """The context by torch's scaled_dot_product_attention, whose rows that see nothing are zeros too."""
    is_only_causal = _is_only_causal(masks, todo)
    mask = None if is_only_causal else merge(masks, q, todo.sizes)
    is_kept = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    if mask is not None and is_kept and not mask.requires_grad:
        mask = mask.clone()  # it is kept for the backward pass, and what was handed in may be changed until then
    return Attended(F.scaled_dot_product_attention(q, k, v, mask, todo.dropout, is_causal=is_only_causal))


def lay_out(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The heads as `run_in_steps` wants them: contiguous, the queries scaled."""
    if torch.is_grad_enabled() and q.requires_grad:
        scaled = plain.scale(q).contiguous()
    else:  # in one go
        scaled = torch.mul(q, q.shape[-1] ** -0.5, out=q.new_empty(q.shape))
    return scaled, k.contiguous(), v.contiguous()


def run_in_steps(q: Tensor, k: Tensor, v: Tensor, masks: Masks, todo: Pass) -> Attended:
    """The context, (B, H, L, D), and what is wanted, of heads that are laid out."""
    if todo.dropout > 0.0:
        todo = todo._replace(seed=int(torch.randint(1 << 62, (), device="cpu")))
    inputs = (q, k, v, masks.attn, masks.padding)
    needs_gradient = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    kind = q.device.type
    with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
        if needs_gradient:
            return run_with_gradient(q, k, v, masks, todo)
        return (run_kernel if is_kernel_fit(q, masks, todo) else run_forward)(q, k, v, masks, todo)
