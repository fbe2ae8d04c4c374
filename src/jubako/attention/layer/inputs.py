"""What a call must fit: shapes, dtypes, devices and masks, looked at together and complained of in one sentence."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from jubako.attention.layer.wanted import Want
from jubako.errors import InputError

__all__ = [
    "AttentionInputError",
    "Call",
    "Layer",
    "check_call",
    "check_tensors",
    "check_want",
    "is_plain_fit",
    "leave_inference",
]


class AttentionInputError(InputError, RuntimeError, AssertionError):
    """A call that the layer cannot do as it is. Torch's layer raises RuntimeError or AssertionError for the same,
    so whoever catches one of these does still.
    """


class Layer(NamedTuple):
    """What a layer says of its inputs: widths of query, key and value, heads, dtype and device of its weights."""

    widths: tuple[int, int, int]
    heads: int
    batch_first: bool
    dtype: torch.dtype
    device: torch.device


class Call(NamedTuple):
    """The tensors of one call."""

    query: Tensor
    key: Tensor
    value: Tensor
    key_padding_mask: Tensor | None
    attn_mask: Tensor | None


def _name_axes(tensor: Tensor, axes: str) -> str:
    """The shape in words, as in (B=2, L=5, E=4); axes that have no name are numbers alone."""
    names = axes.split() if tensor.dim() == len(axes.split()) else []
    sizes = (
        [f"{name}={size}" for name, size in zip(names, tensor.shape, strict=True)] if names else map(str, tensor.shape)
    )
    return f"({', '.join(sizes)})"


def is_plain_fit(call: Call, layer: Layer) -> bool:
    """Whether the call is of one dense batch for all three, without masks, and fits. Most calls are: where the caches
    are full of scores, each function of Python that isn't called spares some ten microseconds.
    """
    query, key, value, padding, attn = call
    if query is not key or query is not value or padding is not None or attn is not None or type(query) is not Tensor:
        return False
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    if query.dim() != 3 or query.is_nested or query.layout is not torch.strided or not query.is_floating_point():
        return False
    width = query.shape[-1]
    return layer.widths == (width, width, width) and layer[3:] == (query.dtype, query.device)


def check_tensors(call: Call) -> None:
    """Raises AttentionInputError unless the call is of tensors that are dense, or nested as the query is."""
    problems = []
    for name, tensor in call._asdict().items():
        if tensor is None and name in ("key_padding_mask", "attn_mask"):
            continue
        if not isinstance(tensor, Tensor):
            problems.append(f"{name} is of type {type(tensor).__name__}, where a tensor was expected")
        elif tensor.is_nested:
            if name != "query" and not (isinstance(call.query, Tensor) and call.query.is_nested):
                problems.append(f"{name} is a nested tensor, and query is not")
        elif tensor.layout != torch.strided:
            problems.append(f"{name} is laid out as {tensor.layout}, where a dense tensor was expected")
    if problems:
        raise AttentionInputError("; ".join(problems))


def check_want(want: Want) -> None:
    """Raises AttentionInputError unless a pass can give what is wanted."""
    if not isinstance(want, Want):
        raise AttentionInputError(f"want is of type {type(want).__name__}, where a Want was expected")
    if type(want.top_keys) is not int or want.top_keys < 0:
        raise AttentionInputError(f"top_keys={want.top_keys!r}, where how many keys was expected, 0 or more")


def check_call(call: Call, layer: Layer) -> None:
    """Raises AttentionInputError with everything about the call that does not fit.

    A graph that torch.jit.trace makes has no part of it; torch.compile and torch.export see what it asks of sizes.
    """
    tracer = None if torch.compiler.is_compiling() else torch._C._get_tracing_state()
    if tracer is None:
        _require_fit(call, layer)
        return
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        _require_fit(call, layer)
    finally:
        torch._C._set_tracing_state(tracer)  # type: ignore[attr-defined]


def leave_inference(call: Call) -> Call:
    """The call with copies of what was made under torch.inference_mode, which no backward pass may keep."""
    if not call.query.is_inference() and not call.key.is_inference() and not call.value.is_inference():
        return call
    copies: dict[int, Tensor] = {}
    for tensor in call[:3]:
        if id(tensor) not in copies:  # what was one tensor stays one
            copies[id(tensor)] = tensor.clone() if tensor.is_inference() else tensor
    return call._replace(query=copies[id(call.query)], key=copies[id(call.key)], value=copies[id(call.value)])


def _require_fit(call: Call, layer: Layer) -> None:
    problems = _check_ranks(call) or [*_check_shapes(call, layer), *_check_masks(call, layer)]
    problems += _check_kinds(call, layer)
    if problems:
        raise AttentionInputError("; ".join(problems))


def _check_ranks(call: Call) -> list[str]:
    rank = call.query.dim()
    if rank not in (2, 3):
        return [f"query has {rank} axes, of shape {_name_axes(call.query, '')}, where 3 or, unbatched, 2 were expected"]
    return [
        f"{name} has {tensor.dim()} axes, {_name_axes(tensor, '')}, and query {rank}, {_name_axes(call.query, '')}"
        for name, tensor in (("key", call.key), ("value", call.value))
        if tensor.dim() != rank
    ]


def _check_shapes(call: Call, layer: Layer) -> list[str]:
    """The axes of query, key and value against the layer, and against each other."""
    is_batched = call.query.dim() == 3

    def say(name: str, tensor: Tensor) -> str:
        order = ("B L " if layer.batch_first else "L B ") if is_batched else "L "
        axes = f"{order}E" if name == "query" else f"{order.replace('L', 'S')}{name[0]}dim"
        return f"{name} {_name_axes(tensor, axes)}"

    named = (("query", call.query), ("key", call.key), ("value", call.value))
    problems = [
        f"{say(name, tensor)} has {tensor.shape[-1]} features, and the layer was made for {width_name}={width}"
        for (name, tensor), width_name, width in zip(named, ("E", "kdim", "vdim"), layer.widths, strict=True)
        if tensor.shape[-1] != width
    ]
    if is_batched:
        batch = 0 if layer.batch_first else 1
        entries = call.query.shape[batch]
        problems += [
            f"{say(name, tensor)} and {say('query', call.query)} differ in B"
            for name, tensor in named[1:]
            if tensor.shape[batch] != entries
        ]
    keys = 1 if is_batched and layer.batch_first else 0
    if call.key.shape[keys] != call.value.shape[keys]:
        problems.append(f"{say('key', call.key)} and {say('value', call.value)} differ in S")
    return problems


def _check_masks(call: Call, layer: Layer) -> list[str]:
    is_batched = call.query.dim() == 3
    rows = 1 if is_batched and layer.batch_first else 0
    length, keys = call.query.shape[rows], call.key.shape[rows]
    entries = call.query.shape[1 - rows] if is_batched else 1
    problems = []
    padding, attn = call.key_padding_mask, call.attn_mask
    if padding is not None and padding.shape != ((entries, keys) if is_batched else (keys,)):
        axes, wanted = ("B S", f"(B={entries}, S={keys})") if is_batched else ("S", f"(S={keys})")
        problems.append(f"key_padding_mask {_name_axes(padding, axes)} was expected to be {wanted}")
    if attn is not None and attn.shape not in ((length, keys), (entries * layer.heads, length, keys)):
        axes = "L S" if attn.dim() == 2 else "B*H L S"
        problems.append(
            f"attn_mask {_name_axes(attn, axes)} was expected to be (L={length}, S={keys}) or "
            f"(B*H={entries * layer.heads}, L={length}, S={keys})"
        )
    return problems


def _check_kinds(call: Call, layer: Layer) -> list[str]:
    """Dtypes and devices. Autocast takes all floating dtypes."""
    kind = layer.device.type
    is_cast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    problems = []
    for name, tensor in (("query", call.query), ("key", call.key), ("value", call.value)):
        if not (tensor.is_floating_point() if is_cast else tensor.dtype == layer.dtype):
            problems.append(f"{name} is {tensor.dtype}, and the weights of the layer are {layer.dtype}")
        if tensor.device != layer.device:
            problems.append(f"{name} is on {tensor.device}, and the weights of the layer are on {layer.device}")
    for name in ("key_padding_mask", "attn_mask"):
        mask: Tensor | None = getattr(call, name)
        if mask is None:
            continue
        if mask.dtype != torch.bool and not mask.is_floating_point():
            problems.append(f"{name} is {mask.dtype}, and only boolean and floating masks have a meaning")
        if mask.device != call.query.device:
            problems.append(f"{name} is on {mask.device}, and query on {call.query.device}")
    return problems
