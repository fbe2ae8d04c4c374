"""The same pass in one go, with all weights held: where a graph of it is made, and for second derivatives."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from jubako.attention.layer import plain
from jubako.attention.layer.blocks import Pass, sum_dtype
from jubako.attention.layer.masks import Masks, merge
from jubako.attention.layer.wanted import Attended

__all__ = ["is_symbolic", "is_transformed", "run_whole"]

_PLAIN = (Tensor, torch.nn.Parameter)


def is_symbolic(tensors: Iterable[Tensor | None]) -> bool:
    """Whether there may be no numbers behind sizes, or nothing behind tensors: something compiles, exports, traces,
    or dispatches the operations, or a tensor is of another class than torch's own. Memory can't be estimated then.
    """
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return True
    if torch._C._len_torch_dispatch_stack():
        return True
    for tensor in tensors:  # noqa: SIM110  (a generator takes twice as long, each call)
        if tensor is not None and type(tensor) not in _PLAIN:
            return True
    return False


def is_transformed(tensors: Iterable[Tensor | None]) -> bool:
    """Whether `torch.func` or forward-mode derivatives follow the operations, which steps with their reused space
    would mislead, or there is nothing behind a tensor.
    """
    if torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0:
        return True
    for tensor in tensors:  # noqa: SIM110  (as above)
        if tensor is not None and tensor.is_meta:
            return True
    return False


def run_whole(q: Tensor, k: Tensor, v: Tensor, masks: Masks, todo: Pass, kept: Tensor | None) -> Attended:
    """What `blocks.run_forward` gives, differentiably.

    The queries are scaled. `kept` is what dropout multiplies the weights with, (B, H, L, S), or None.
    """
    want = todo.want
    context, applied, weights = plain.attend(q, k, v, merge(masks, q, todo.sizes), kept)
    exact = sum_dtype(q.dtype)
    top = torch.topk(applied.detach(), min(want.top_keys, todo.sizes.keys), -1) if want.top_keys else None
    return Attended(
        context,
        averaged=applied.mean(1) if want.averaged else None,
        per_head=applied if want.per_head else None,
        column_sums=applied.sum(2, dtype=exact) if want.column_sums else None,
        row_entropy=plain.entropy(weights.to(exact)) if want.row_entropy else None,
        top_keys=None if top is None else top.indices,
        top_weights=None if top is None else top.values,
    )
