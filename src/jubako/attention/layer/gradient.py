"""The pass over steps with gradients: weights are computed once more, step by step, instead of being kept.

So training takes O(B L S) memory where the averaged map is returned, and O(B (L + S)) and copies of masks where it is
not. Gradients flow into queries, keys, values and additive masks, from the context, the averaged map, the maps of all
heads, their column sums, and the entropies of their rows. Second derivatives come from the pass in one go.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from jubako.attention.layer.blocks import Pass, draw_all_kept, draw_kept, plan_pass, run_forward, sum_dtype, weigh
from jubako.attention.layer.compiled import is_kernel_fit, run_kernel
from jubako.attention.layer.masks import Masks
from jubako.attention.layer.steps import Step
from jubako.attention.layer.wanted import Attended
from jubako.attention.layer.whole import run_whole

__all__ = ["run_with_gradient"]


def run_with_gradient(q: Tensor, k: Tensor, v: Tensor, masks: Masks, todo: Pass) -> Attended:
    """What `run_forward` gives, with gradients."""
    attn, padding = _keep(masks.attn), _keep(masks.padding)
    return Attended(*_Blocks.apply(q, k, v, attn, padding, masks.is_causal, todo))  # type: ignore[no-untyped-call]


def _keep(mask: Tensor | None) -> Tensor | None:
    """The mask as the backward pass will find it: a copy where whoever has it may change it until then."""
    return mask if mask is None or mask.requires_grad else mask.clone()


class _Given(NamedTuple):
    """The gradients of what a pass gave, by name; None for what nobody asked a gradient of."""

    output: Tensor | None
    averaged: Tensor | None
    per_head: Tensor | None
    column_sums: Tensor | None
    row_entropy: Tensor | None


class _Blocks(torch.autograd.Function):
    """`run_forward`, and its gradients."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor | None, ...]:
        q, k, v, attn, padding, is_causal, todo = given
        ctx.save_for_backward(q, k, v, attn, padding)
        ctx.is_causal, ctx.todo = is_causal, todo
        ctx.set_materialize_grads(False)
        masks = Masks(attn, padding, is_causal)
        found = (run_kernel if is_kernel_fit(q, masks, todo) else run_forward)(q, k, v, masks, todo)
        of_values_alone = not any(ctx.needs_input_grad[i] for i in (0, 1, 3, 4))
        constants = found[1:] if of_values_alone else (found.top_keys, found.top_weights)
        ctx.mark_non_differentiable(*(x for x in constants if x is not None))
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, attn, padding = ctx.saved_tensors
        masks = Masks(attn, padding, ctx.is_causal)
        given = _Given(*gradients[:5])
        are_many = any(g is not None and torch._C._functorch.is_legacy_batchedtensor(g) for g in given)
        if torch.is_grad_enabled() or are_many:
            kept = None if ctx.todo.dropout == 0.0 else _draw_again(masks, ctx.todo, q.detach(), are_many=are_many)
            with torch.enable_grad():
                made = _differentiate_whole(_Inputs(q, k, v, attn, padding), ctx, kept, given)
        else:
            made = _Backward(q, k, v, masks, ctx.todo).run(given, ctx.needs_input_grad[:5])
        return *made, None, None


def _draw_again(masks: Masks, todo: Pass, like: Tensor, *, are_many: bool) -> Tensor:
    """What dropout multiplied all weights with. Where many gradients are taken at a time torch lets nobody draw, lest
    each were to have another draw: here all have the one of the forward pass.
    """
    if not are_many:
        return draw_all_kept(masks, todo, like)
    torch._C._vmapmode_decrement_nesting()
    try:
        return draw_all_kept(masks, todo, like)
    finally:
        torch._C._vmapmode_increment_nesting()


class _Inputs(NamedTuple):
    """What gradients are asked of."""

    q: Tensor
    k: Tensor
    v: Tensor
    attn: Tensor | None
    padding: Tensor | None


def _differentiate_whole(saved: _Inputs, ctx: Any, kept: Tensor | None, given: _Given) -> tuple[Tensor | None, ...]:
    """The gradients as functions of everything, for derivatives of them, and for many gradients at a time."""
    inputs = [None if x is None else x.view_as(x) for x in saved]
    q, k, v, attn, padding = inputs
    assert q is not None and k is not None and v is not None
    found = run_whole(q, k, v, Masks(attn, padding, ctx.is_causal), ctx.todo, kept)
    pairs = [(getattr(found, name), gradient) for name, gradient in given._asdict().items() if gradient is not None]
    needed = ctx.needs_input_grad[:5]
    wanted = [x for x, is_needed in zip(inputs, needed, strict=True) if is_needed and x is not None]
    outputs, gradients = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    made = iter(torch.autograd.grad(outputs, wanted, gradients, create_graph=True, allow_unused=True))
    return tuple(next(made) if is_needed else None for is_needed in needed)


class _Backward:
    """One backward pass over the steps of a forward pass."""

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, masks: Masks, todo: Pass) -> None:
        self._q, self._k, self._v, self._masks, self._todo = q, k, v, masks, todo

    def run(self, given: _Given, needed: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
        """The gradients of queries, keys, values, attention mask and padding mask, those that are needed."""
        inputs = (self._q, self._k, self._v, self._masks.attn, self._masks.padding)
        made = [
            torch.zeros_like(x, dtype=sum_dtype(x.dtype)) if is_needed and x is not None else None
            for x, is_needed in zip(inputs, needed, strict=True)
        ]
        steps, space = plan_pass(self._masks, self._todo, self._q)
        for step in steps:
            if step.keys:
                self._do(step, space, given, made)
        return tuple(g if g is None or x is None else g.to(x.dtype) for g, x in zip(made, inputs, strict=True))

    def _do(self, step: Step, space: Tensor, given: _Given, made: list[Tensor | None]) -> None:
        """Adds what one step contributes to the gradients."""
        dq, dk, dv, d_attn, d_padding = made
        at_rows = (step.batch, step.heads, step.rows)
        at_keys = (step.batch, step.heads, slice(step.keys))
        weights = weigh(self._q, self._k, self._masks, step, self._todo.sizes, space)
        kept = draw_kept(weights, self._todo, step) if self._todo.dropout > 0.0 else None
        if dv is not None and given.output is not None:
            applied = weights if kept is None else weights * kept
            dv[at_keys].add_(torch.matmul(applied.transpose(2, 3), given.output[at_rows]))
        if all(gradient is None for gradient in (dq, dk, d_attn, d_padding)):
            return
        d_scores = self._differentiate_softmax(step, weights, kept, given)
        low = d_scores.to(weights.dtype)
        if dq is not None:
            dq[at_rows].add_(torch.matmul(low, self._k[at_keys]))
        if dk is not None:
            dk[at_keys].add_(torch.matmul(low.transpose(2, 3), self._q[at_rows]))
        if d_attn is not None:
            entries = step.batch if d_attn.shape[0] > 1 else slice(None)
            heads = step.heads if d_attn.shape[1] > 1 else slice(None)
            target = d_attn[entries, heads, step.rows, : step.keys]
            target += d_scores.sum_to_size(target.shape)
        if d_padding is not None:
            d_padding[step.batch, : step.keys].add_(d_scores.sum((1, 2)))

    def _differentiate_softmax(self, step: Step, weights: Tensor, kept: Tensor | None, given: _Given) -> Tensor:
        """The gradient of the scores of a step, (b, h, rows, keys), in the dtype of sums."""
        exact = weights.to(sum_dtype(weights.dtype))
        at_rows = (step.batch, step.heads, step.rows)
        if given.output is None:
            gradient = torch.zeros_like(exact)
        else:
            values = self._v[step.batch, step.heads, : step.keys]
            gradient = torch.matmul(given.output[at_rows], values.transpose(2, 3)).to(exact.dtype)
        if given.averaged is not None:
            averaged = given.averaged[step.batch, None, step.rows, : step.keys]
            gradient += averaged.to(exact.dtype) / self._todo.sizes.heads
        if given.per_head is not None:
            gradient += given.per_head[(*at_rows, slice(step.keys))]
        if given.column_sums is not None:
            gradient += given.column_sums[step.batch, step.heads, None, : step.keys]
        if kept is not None:
            gradient *= kept
        if given.row_entropy is not None:
            # d(-w log w) / dw; a weight of 0 is multiplied with 0 below, which an infinite logarithm must not meet.
            slope = exact.log().add_(1.0).masked_fill_(exact == 0.0, 0.0)
            gradient -= slope * given.row_entropy[at_rows].unsqueeze(-1)
        gradient *= exact
        return gradient.addcmul_(exact, gradient.sum(-1, keepdim=True), value=-1.0)
