"""The pass over steps: weights of some rows at a time, from which the context and all that was asked for is gathered.

What is computed is what `plain.attend` computes; what differs is that no more weights are held at a time than a step
has. Products and softmax are done in the dtype of the inputs, as torch does them; sums over heads and over rows of
lower precisions in float32.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from jubako.attention.layer.masks import Masks, add_masks, find_lengths
from jubako.attention.layer.plain import entropy
from jubako.attention.layer.steps import STEP_BYTES, Sizes, Step, plan_steps
from jubako.attention.layer.wanted import Attended, Want

__all__ = ["Pass", "draw_all_kept", "draw_kept", "plan_pass", "run_forward", "sum_dtype", "weigh"]


class Pass(NamedTuple):
    """What one pass is to do: the axes, what is wanted besides the context, the dropout with its seed, and how much
    of the scores is to be held at a time.
    """

    sizes: Sizes
    want: Want
    dropout: float = 0.0
    seed: int = 0
    step_bytes: int = STEP_BYTES


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which many values of this one are summed."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def plan_pass(masks: Masks, todo: Pass, like: Tensor) -> tuple[tuple[Step, ...], Tensor]:
    """The steps of a pass, and space for the scores of the largest of them."""
    lengths, causal = find_lengths(masks), masks.is_causal
    if lengths is None:
        steps, most = _plan_full(todo.sizes, todo.step_bytes, like.element_size(), causal)
    else:
        steps = tuple(plan_steps(todo.sizes, todo.step_bytes, like.element_size(), is_causal=causal, lengths=lengths))
        most = _count_largest(steps)
    return steps, like.new_empty(most)


@lru_cache(maxsize=64)
def _plan_full(sizes: Sizes, step_bytes: int, item_bytes: int, is_causal: bool) -> tuple[tuple[Step, ...], int]:
    """The steps where no padding shortens them, and the scores of the largest: the same for each batch."""
    steps = tuple(plan_steps(sizes, step_bytes, item_bytes, is_causal=is_causal))
    return steps, _count_largest(steps)


def _count_largest(steps: tuple[Step, ...]) -> int:
    return max(map(_count_scores, steps), default=0)


def _count_scores(step: Step) -> int:
    count: int = step.keys
    for axis in (step.batch, step.heads, step.rows):
        count *= axis.stop - axis.start
    return count


def run_forward(q: Tensor, k: Tensor, v: Tensor, masks: Masks, todo: Pass) -> Attended:
    """The context (B, H, L, D) as `output`, and what is wanted, of scaled queries (B, H, L, D) and keys (B, H, S, D).

    Fastest where the heads are contiguous. No gradient is recorded; the caller sees to that.
    """
    sizes = todo.sizes
    steps, space = plan_pass(masks, todo, q)
    found = _allocate(v, sizes, todo.want)
    sums = torch.empty(0)
    for step in steps:
        if step.keys < sizes.keys or step.keys == 0:
            _clear_unseen(found, step)
        if step.keys == 0:
            continue
        weights = weigh(q, k, masks, step, todo.sizes, space)
        if found.row_entropy is not None:
            found.row_entropy[step.batch, step.heads, step.rows] = entropy(weights.to(found.row_entropy.dtype))
        if todo.dropout > 0.0:
            weights *= draw_kept(weights, todo, step)
        _apply(weights, v, found.output, step)
        _gather(found, weights, step)
        if found.averaged is not None:
            sums = _average(found.averaged, weights, step, sizes, sums)
    return found


def weigh(q: Tensor, k: Tensor, masks: Masks, step: Step, sizes: Sizes, space: Tensor) -> Tensor:
    """The weights of a step before dropout, (b, h, rows, keys), made in `space`, which the next step overwrites."""
    queries = q[step.batch, step.heads, step.rows]
    keys = k[step.batch, step.heads, : step.keys].flatten(0, 1)
    b, h, rows, _ = queries.shape
    flat = space[: b * h * rows * step.keys].view(b * h, rows, step.keys)
    torch.bmm(queries.flatten(0, 1), keys.transpose(1, 2), out=flat)
    scores = flat.view(b, h, rows, step.keys)
    blind = None if masks.is_empty else add_masks(scores, masks, step, sizes)
    # In place where each row is read before it is written; elsewhere nobody promises that.
    weights = torch.softmax(scores, -1, out=scores if scores.device.type == "cpu" else None)
    return weights if blind is None else weights.masked_fill_(blind, 0.0)


def draw_kept(like: Tensor, todo: Pass, step: Step) -> Tensor:
    """What dropout multiplies the weights of a step with: 0, or 1 / (1 - p); the same each time for the same seed."""
    generator = torch.Generator(like.device)
    generator.manual_seed(todo.seed + step.number)
    kept = torch.empty_like(like).bernoulli_(1.0 - todo.dropout, generator=generator)
    return kept.mul_(1.0 / (1.0 - todo.dropout)) if todo.dropout < 1.0 else kept


def draw_all_kept(masks: Masks, todo: Pass, like: Tensor) -> Tensor:
    """What `draw_kept` gives for all steps of a pass, (B, H, L, S), and 0 where no step comes."""
    sizes = todo.sizes
    kept = like.new_zeros(sizes.batch, sizes.heads, sizes.queries, sizes.keys)
    for step in plan_pass(masks, todo, like)[0]:
        part = kept[step.batch, step.heads, step.rows, : step.keys]
        part.copy_(draw_kept(part.contiguous(), todo, step))
    return kept


def _allocate(like: Tensor, sizes: Sizes, want: Want) -> Attended:
    """Room for the results; zeros in what is summed up and in rows that may stay as they are."""
    rows = (sizes.batch, sizes.heads, sizes.queries)
    exact = sum_dtype(like.dtype)
    top = min(want.top_keys, sizes.keys)
    return Attended(
        # In the order in which heads are joined, which then takes no copy.
        like.new_empty((sizes.batch, sizes.queries, sizes.heads, like.shape[-1])).transpose(1, 2),
        averaged=like.new_empty((sizes.batch, sizes.queries, sizes.keys)) if want.averaged else None,
        per_head=like.new_empty((*rows, sizes.keys)) if want.per_head else None,
        column_sums=like.new_zeros((sizes.batch, sizes.heads, sizes.keys), dtype=exact) if want.column_sums else None,
        row_entropy=like.new_zeros(rows, dtype=exact) if want.row_entropy else None,
        top_keys=torch.arange(top, device=like.device).repeat(*rows, 1) if want.top_keys else None,
        top_weights=like.new_zeros((*rows, top)) if want.top_keys else None,
    )


def _apply(weights: Tensor, v: Tensor, context: Tensor, step: Step) -> None:
    """Puts the weighted sums of values where the context of a step belongs."""
    values = v[step.batch, step.heads, : step.keys]
    target = context[step.batch, step.heads, step.rows]
    if target.shape[0] == 1:
        torch.bmm(weights[0], values[0], out=target[0])
    else:
        target.copy_(torch.matmul(weights, values))


def _clear_unseen(found: Attended, step: Step) -> None:
    """Puts zeros where the rows of a step have keys that none of them may see."""
    if step.keys == 0:
        found.output[step.batch, step.heads, step.rows] = 0.0
    if found.averaged is not None and step.is_first_of_rows:
        found.averaged[step.batch, step.rows, step.keys :] = 0.0
    if found.per_head is not None:
        found.per_head[step.batch, step.heads, step.rows, step.keys :] = 0.0


def _gather(found: Attended, weights: Tensor, step: Step) -> None:
    """Puts what was asked of each head where it belongs."""
    if found.per_head is not None:
        found.per_head[step.batch, step.heads, step.rows, : step.keys] = weights
    if found.column_sums is not None:
        summed = weights.sum(2, dtype=found.column_sums.dtype)
        found.column_sums[step.batch, step.heads, : step.keys].add_(summed)
    if found.top_keys is not None and found.top_weights is not None:
        count = min(step.keys, found.top_keys.shape[-1])
        top = torch.topk(weights, count, -1)
        found.top_keys[step.batch, step.heads, step.rows, :count] = top.indices
        found.top_weights[step.batch, step.heads, step.rows, :count] = top.values


def _average(averaged: Tensor, weights: Tensor, step: Step, sizes: Sizes, sums: Tensor) -> Tensor:
    """Adds the heads of a step to the averaged map of its rows, and returns the sums so far, to be handed in next."""
    target = averaged[step.batch, step.rows, : step.keys]
    if weights.shape[1] == sizes.heads:
        torch.sum(weights, 1, out=target).mul_(1.0 / sizes.heads)
        return sums
    if step.is_first_of_rows:  # in place, or apart in float32
        sums = target if target.dtype == sum_dtype(target.dtype) else torch.empty_like(target, dtype=torch.float32)
        torch.sum(weights, 1, dtype=sums.dtype, out=sums)
    else:
        sums += weights.squeeze(1) if weights.shape[1] == 1 else weights.sum(1, dtype=sums.dtype)
    if step.is_last_of_rows(sizes):
        torch.mul(sums, 1.0 / sizes.heads, out=target)
    return sums
