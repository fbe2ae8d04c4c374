"""A layer of a file computed by torch's own module, both its paths, in the type of the file."""

from __future__ import annotations

import math

import numpy as np
import torch

from jubako.attention.checking.judge import Observed
from jubako.attention.description import scale_of
from jubako.attention.inputs import causal_mask
from jubako.attention.observing.modes import TURNING
from jubako.attention.observing.multihead import Arguments, describe_multihead, sizes_of
from jubako.attention.observing.ways import Subject, run_all_ways
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.attention.checking.judge import Call, Expected
    from jubako.attention.description import Array, Weights

__all__ = ["run_by_torch"]

_NAME = "torch.nn.MultiheadAttention"


def run_by_torch(call: Call, expected: Expected, seed: int) -> list[Observed]:
    """What torch's layer gives for a call; or why it cannot be that layer."""
    reason = _reason_against(call)
    if reason:
        return [Observed(_NAME, refused=reason)]
    dtype = getattr(torch, call.precision.name)
    module = _make(call.weights, call.settings.heads, adds_zero=call.settings.adds_zero).to(dtype)
    inputs = [torch.from_numpy(np.ascontiguousarray(each)).to(dtype) for each in (call.query, call.key, call.value)]
    if call.key is call.query and call.value is call.query:
        inputs = [inputs[0]] * 3  # for torch's fast path they have to be one tensor
    length, keys = inputs[0].shape[-2], inputs[1].shape[-2]
    mask = call.masks.attention
    if call.settings.is_causal:
        later = causal_mask(length, keys)
        mask = later if mask is None else np.where(later, -np.inf, 0.0) + _added(mask)
    padding = call.masks.padding
    arguments = Arguments(
        inputs[0],
        inputs[1],
        inputs[2],
        key_padding_mask=None if padding is None else _tensor(padding, dtype),
        attn_mask=None if mask is None else _tensor(mask, dtype),
    )
    described = describe_multihead(module)
    sizes = sizes_of(described, expected.values)
    with TURNING:
        runs = run_all_ways(Subject(module.eval(), described, arguments, sizes, expected.values, seed))
    return [replace(run, name=f"{_NAME}, {run.name}") for run in runs]


def _reason_against(call: Call) -> str:
    weights, settings = call.weights, call.settings
    size = weights.query.shape[0] // settings.heads
    if settings.rotary is not None:
        return "it knows no rotary positions"
    if weights.query_norm is not None:
        return "it does not normalise queries and keys"
    if settings.softcap is not None:
        return "it does not cap scores"
    if settings.groups != settings.heads:
        return f"it has as many heads of keys as of queries, and this layer has {settings.groups} and {settings.heads}"
    if not math.isclose(scale_of(settings, size), size**-0.5, rel_tol=1e-6):
        return f"it scales by 1/sqrt(D), and this layer by {scale_of(settings, size):.3g}"
    shape = (weights.query.shape[1],) * 2
    if weights.output is None or weights.query.shape != shape or weights.output.shape != shape:
        return "its queries and outputs have E features, and those of this layer do not"
    return ""


def _make(weights: Weights, heads: int, *, adds_zero: bool) -> torch.nn.MultiheadAttention:
    embed = weights.query.shape[1]
    has_bias = weights.query_bias is not None or weights.output_bias is not None
    module = torch.nn.MultiheadAttention(
        embed,
        heads,
        bias=has_bias,
        add_bias_kv=weights.added_key is not None,
        add_zero_attn=adds_zero,
        kdim=weights.key.shape[1],
        vdim=weights.value.shape[1],
        batch_first=True,
        dtype=torch.float64,
    )
    parts = {which: getattr(weights, which) for which in ("query", "key", "value")}
    state: dict[str, Array] = {"out_proj.weight": weights.output}
    if module.in_proj_weight is None:
        state |= {f"{which[0]}_proj_weight": array for which, array in parts.items()}
    else:
        state["in_proj_weight"] = np.concatenate(list(parts.values()))
    if has_bias:
        biases = [getattr(weights, f"{which}_bias") for which in parts]
        state["in_proj_bias"] = np.concatenate([np.zeros(embed) if bias is None else bias for bias in biases])
        state["out_proj.bias"] = np.zeros(embed) if weights.output_bias is None else weights.output_bias
    if weights.added_key is not None and weights.added_value is not None:
        state |= {"bias_k": weights.added_key[None, None], "bias_v": weights.added_value[None, None]}
    module.load_state_dict({name: torch.from_numpy(np.array(array, dtype=np.float64)) for name, array in state.items()})
    return module


def _added(mask: Array) -> Array:
    return np.where(mask, -np.inf, 0.0) if mask.dtype.kind == "b" else mask


def _tensor(mask: Array, dtype: torch.dtype) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(mask))
    return tensor if tensor.dtype == torch.bool else tensor.to(dtype)
