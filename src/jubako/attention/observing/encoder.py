"""Whole encoder layers of torch's: their fast path is one operation, which their attention module never sees."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from jubako.attention.checking.compare import compare
from jubako.attention.checking.precision import precision_of
from jubako.attention.checking.verdicts import LayerReport, RunReport, StepVerdict, Trap
from jubako.attention.observing.multihead import fast_path
from jubako.attention.observing.roles import to_array
from jubako.attention.observing.trace import Trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from jubako.attention.checking.verdicts import Verdict

__all__ = ["compare_whole_layers"]

_WHOLE = "_transformer_encoder_layer_fwd"
_ROUNDINGS = 16.0  # attention, two norms and two linear layers, in units of the largest number that comes out


def compare_whole_layers(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[LayerReport]:
    """If the model takes the fast path of whole layers: its result against that of the slow one."""
    if not any(isinstance(module, torch.nn.TransformerEncoderLayer) for module in model.modules()):
        return
    results = {}
    took_fast = False
    for path in ("slow", "fast"):
        trace = Trace(())
        with warnings.catch_warnings(), torch.no_grad(), fast_path(enabled=path == "fast"), trace:
            warnings.filterwarnings(
                "ignore", "The PyTorch API of nested tensors"
            )  # torch's own, of what it does itself
            results[path] = to_array(model(*args, **kwargs))
        took_fast = took_fast or any(node.op == _WHOLE for node in trace.nodes)
    if not took_fast:
        return
    fast = results["fast"]
    slow = results["slow"][
        tuple(slice(size) for size in fast.shape)
    ]  # the fast path may cut off what all are padded with
    padding = kwargs.get("src_key_padding_mask")
    if padding is not None and fast.shape[:2] == padding.shape[:2]:  # of which it makes what it likes
        fast = np.where(to_array(padding)[..., None] != 0, slow, fast)
    precision = precision_of(str(next(model.parameters()).dtype).removeprefix("torch."))
    size = np.abs(slow[np.isfinite(slow)]).max(initial=0.0)
    compared = compare(fast, slow, np.array(_ROUNDINGS * precision.unit * max(size, 1.0)), precision)
    agrees = compared.holds
    verdict: Verdict = "within_bound" if agrees else "out_of_bound" if compared.is_finite else "non_finite"
    step = StepVerdict(
        "output", ("B", "L", "E"), fast.shape, verdict, None, compared, None, "" if agrees else "producer"
    )
    trap = Trap(
        "paths_disagree", "the whole layer's fast path gives something else than its slow path", is_failure=True
    )
    yield LayerReport(
        "whole layers",
        f"{type(model).__module__}.{type(model).__qualname__}",
        {"dtype": precision.name},
        [RunReport("fast path against slow path", [step])],
        () if agrees else (trap,),
    )
