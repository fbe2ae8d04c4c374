"""torch.nn.MultiheadAttention, and every module that has its parameters and its call: described, and run all its ways.

It has two paths, a slow one of plain operations and a fast one that is a single operation, and each is taken with and
without weights. They treat masks differently, so all of them are run, on the same inputs.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import torch

from jubako.attention.checking.judge import Call, Observed
from jubako.attention.description import Masks, Settings, Weights
from jubako.attention.observing.described import Described, array_of, precision_of_module
from jubako.attention.observing.roles import Sizes, find_steps, to_array
from jubako.attention.observing.trace import Trace
from jubako.errors import InputError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from jubako.attention.description import Array

__all__ = [
    "Arguments",
    "describe_multihead",
    "fast_path",
    "is_multihead",
    "read_arguments",
    "run_all_ways",
    "sizes_of",
    "to_call",
]

_FAST = "_native_multi_head_attention"
_NAMES = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask", "average_attn_weights", "is_causal")
_WAYS: tuple[tuple[str, dict[str, bool]], ...] = (
    ("need_weights=True", {"need_weights": True}),
    ("need_weights=True, per head", {"need_weights": True, "average_attn_weights": False}),
    ("need_weights=False", {"need_weights": False}),
)


@record
class Arguments:
    """What the layer is called with, but for what of the weights is wanted."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    key_padding_mask: torch.Tensor | None = None
    attn_mask: torch.Tensor | None = None
    is_causal: bool = False


def is_multihead(module: torch.nn.Module) -> bool:
    """True for torch's layer, its subclasses, and whatever else has its parameters and its number of heads."""
    if isinstance(module, torch.nn.MultiheadAttention):
        return True
    has_weights = hasattr(module, "in_proj_weight") or hasattr(module, "q_proj_weight")
    return has_weights and hasattr(module, "out_proj") and hasattr(module, "num_heads")


def describe_multihead(module: Any) -> Described:
    """Its weights and settings."""
    packed = getattr(module, "in_proj_weight", None)
    if packed is not None:
        query, key, value = (to_array(part) for part in packed.chunk(3))
    else:
        query, key, value = (to_array(getattr(module, f"{which}_proj_weight")) for which in "qkv")
    bias = getattr(module, "in_proj_bias", None)
    biases = [None] * 3 if bias is None else [to_array(part) for part in bias.chunk(3)]
    rows = {name: getattr(module, name, None) for name in ("bias_k", "bias_v")}
    weights = Weights(
        query,
        key,
        value,
        to_array(module.out_proj.weight),
        query_bias=biases[0],
        key_bias=biases[1],
        value_bias=biases[2],
        output_bias=array_of(module.out_proj.bias),
        added_key=None if rows["bias_k"] is None else to_array(rows["bias_k"]).reshape(-1),
        added_value=None if rows["bias_v"] is None else to_array(rows["bias_v"]).reshape(-1),
    )
    settings = Settings(
        heads=module.num_heads,
        adds_zero=bool(getattr(module, "add_zero_attn", False)),
        batch_first=bool(getattr(module, "batch_first", False)),
    )
    device = next(module.parameters()).device
    return Described(_name_of(module), weights, settings, precision_of_module(module), device)


def read_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
    """The arguments of a call of the layer. One tensor alone is query, key and value."""
    if len(args) == 1 and not {"key", "value"} & kwargs.keys():
        args = (args[0],) * 3
    given = {**dict(zip(_NAMES, args, strict=False)), **kwargs}
    unknown = [name for name in given if name not in _NAMES]
    if unknown or len(args) > len(_NAMES):
        raise InputError(f"the layer takes {', '.join(_NAMES)}, not {', '.join(unknown) or 'so many arguments'}")
    missing = [name for name in _NAMES[:3] if not isinstance(given.get(name), torch.Tensor)]
    if missing:
        raise InputError(
            f"the layer is called with a tensor each for query, key and value: {', '.join(missing)} is none"
        )
    return Arguments(
        given["query"],
        given["key"],
        given["value"],
        given.get("key_padding_mask"),
        given.get("attn_mask"),
        bool(given.get("is_causal", False)),
    )


def to_call(described: Described, arguments: Arguments, memory_bytes: int | None = None) -> Call:
    """The same call for the reference."""
    settings = described.settings
    for which in ("query", "key", "value"):
        tensor = getattr(arguments, which)
        if tensor.is_nested:
            raise InputError(f"the {which} is a nested tensor, which is not re-derived")
        if tensor.device != described.device:
            raise InputError(f"the {which} is on {tensor.device}, and the layer's parameters are on {described.device}")
        own = str(tensor.dtype).removeprefix("torch.")
        if own != described.precision.name:
            raise InputError(f"the {which} is of type {own}, and the layer's parameters are {described.precision.name}")
    return Call(
        described.weights,
        Settings(
            settings.heads,
            adds_zero=settings.adds_zero,
            batch_first=settings.batch_first,
            is_causal=arguments.is_causal,
        ),
        to_array(arguments.query),
        to_array(arguments.key),
        to_array(arguments.value),
        described.precision,
        Masks(array_of(arguments.attn_mask), array_of(arguments.key_padding_mask)),
        memory_bytes,
    )


def run_all_ways(
    module: torch.nn.Module, arguments: Arguments, sizes: Sizes, reference: Mapping[str, Array], seed: int
) -> Iterator[Observed]:
    """What the layer shows of its steps on each path, with and without weights; in training, what it does there."""
    modes = {each: each.training for each in module.modules()}
    try:
        if module.training and float(getattr(module, "dropout", 0.0) or 0.0) > 0:
            yield _run_training(module, arguments, sizes, reference, seed)
        module.eval()
        slow = [_run(module, arguments, sizes, reference, words, how, fast=False)[0] for words, how in _WAYS]
        fast = list(_run_fast(module, arguments, sizes, reference, slow))
        has_paths = bool(fast) or type(module).forward is torch.nn.MultiheadAttention.forward
        for run in slow:
            yield replace(run, name=f"slow path, {run.name}") if has_paths else run
        yield from fast
    finally:
        for each, is_training in modes.items():
            each.training = is_training


def _run_fast(
    module: torch.nn.Module,
    arguments: Arguments,
    sizes: Sizes,
    reference: Mapping[str, Array],
    slow: Sequence[Observed],
) -> Iterator[Observed]:
    """The runs on torch's fast path, if that is taken, or raises something else than the slow one."""
    for (words, how), other in zip(_WAYS, slow, strict=True):
        run, took_fast = _run(module, arguments, sizes, reference, f"fast path, {words}", how, fast=True)
        if took_fast or run.refused != other.refused:
            yield run
        elif not run.refused:
            return


def sizes_of(described: Described, reference: Mapping[str, Array]) -> Sizes:
    """The sizes of the call."""
    batch, heads, length, keys = reference["weights"].shape
    given = reference["key_projection"].shape[1]
    size = reference["query_heads"].shape[-1]
    return Sizes(batch, length, keys, given, heads, described.settings.groups, size, described.precision.name)


def _run(
    module: torch.nn.Module,
    arguments: Arguments,
    sizes: Sizes,
    reference: Mapping[str, Array],
    name: str,
    how: dict[str, bool],
    *,
    fast: bool,
) -> tuple[Observed, bool]:
    """What one way shows, and whether torch took its fast path."""
    trace = Trace(module.parameters())
    try:
        with torch.no_grad(), fast_path(enabled=fast), trace:
            output, weights = _call(module, arguments, how)
    except (RuntimeError, ValueError, AssertionError, NotImplementedError) as error:
        return Observed(name, refused=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"), False
    took_fast = any(node.op == _FAST for node in trace.nodes)
    is_whole = how == _WAYS[0][1] or (how["need_weights"] is False)
    values = find_steps(trace, sizes, reference, is_training=False) if is_whole else {}
    _take_result(values, output, weights, arguments, module, sizes)
    return Observed(name, values, is_result=took_fast or not is_whole), took_fast


def _run_training(
    module: torch.nn.Module, arguments: Arguments, sizes: Sizes, reference: Mapping[str, Array], seed: int
) -> Observed:
    """The call in training, with dropout. What comes after the weights is not what the reference has."""
    name = "training, with dropout"
    trace = Trace(module.parameters())
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), trace:
            torch.manual_seed(seed)
            _output, returned = _call(module, arguments, {"need_weights": True, "average_attn_weights": False})
    except (RuntimeError, ValueError, AssertionError, NotImplementedError) as error:
        return Observed(name, refused=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    values = find_steps(trace, sizes, reference, is_training=True)
    for step in ("context", "concatenated", "output"):
        values.pop(step, None)
    if returned is not None:
        values["returned_weights"] = to_array(returned).reshape(reference["weights"].shape)
    return Observed(name, values, dropout=float(getattr(module, "dropout", 0.0)))


def _call(module: torch.nn.Module, arguments: Arguments, how: dict[str, bool]) -> tuple[Any, Any]:
    result = module(
        arguments.query,
        arguments.key,
        arguments.value,
        key_padding_mask=arguments.key_padding_mask,
        attn_mask=arguments.attn_mask,
        is_causal=arguments.is_causal,
        **how,
    )
    return (result[0], result[1]) if isinstance(result, tuple) else (result, None)


def _take_result(
    values: dict[str, Array],
    output: torch.Tensor,
    weights: torch.Tensor | None,
    arguments: Arguments,
    module: torch.nn.Module,
    sizes: Sizes,
) -> None:
    """What the call gave back is what counts, whatever the trace has."""
    array = to_array(output)
    if arguments.query.ndim == 2:
        array = array[None]
    elif not getattr(module, "batch_first", False):
        array = np.swapaxes(array, 0, 1)
    values["output"] = array
    if weights is None:
        return
    given = to_array(weights)
    per_head = (sizes.batch, sizes.heads, sizes.length, sizes.keys)
    if given.ndim + (arguments.query.ndim == 2) == 4:
        values["weights"] = given.reshape(per_head) if given.size == sizes.maps else given
    else:
        values["averaged_weights"] = given[None] if arguments.query.ndim == 2 else given


def _name_of(module: torch.nn.Module) -> str:
    kind = type(module)
    return (
        "torch.nn.MultiheadAttention"
        if kind is torch.nn.MultiheadAttention
        else f"{kind.__module__}.{kind.__qualname__}"
    )


@contextmanager
def fast_path(*, enabled: bool) -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(enabled)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
