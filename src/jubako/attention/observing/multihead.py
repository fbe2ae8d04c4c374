"""torch.nn.MultiheadAttention, and every module that has its parameters and its call: described."""

from __future__ import annotations

import inspect

import torch

from jubako.attention.checking.judge import Call
from jubako.attention.description import Masks, Settings, Weights
from jubako.attention.observing.described import Described, array_of, get_weight, place_of, precision_of_weights
from jubako.attention.observing.roles import Sizes, to_array
from jubako.errors import InputError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from jubako.attention.description import Array

__all__ = [
    "Arguments",
    "describe_multihead",
    "is_called_alike",
    "is_multihead",
    "measure_call",
    "read_arguments",
    "sizes_of",
    "to_call",
]

_NAMES = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask", "average_attn_weights", "is_causal")


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
    """True for torch's layer, its subclasses, and whatever else has its parameters, number of heads and call."""
    if isinstance(module, torch.nn.MultiheadAttention):
        return True
    has_weights = hasattr(module, "in_proj_weight") or hasattr(module, "q_proj_weight")
    return has_weights and hasattr(module, "out_proj") and hasattr(module, "num_heads") and is_called_alike(module)


def is_called_alike(module: torch.nn.Module) -> bool:
    """True for a module that takes all that torch's layer does."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):  # one that is not written in Python: its call will tell
        return True
    try:
        signature.bind(*_NAMES[:3], **dict.fromkeys(_NAMES[3:]))
    except TypeError:
        return False
    return True


def describe_multihead(module: Any) -> Described:
    """Its weights and settings. InputError for weights that are no tensors, or hold no numbers that could be read."""
    kind = type(module).__name__
    if getattr(module, "in_proj_weight", None) is not None:
        packed = get_weight(module, "in_proj_weight", kind)
        if packed.ndim != 2 or packed.shape[0] % 3:
            raise InputError(f"in_proj_weight of {kind} is {tuple(packed.shape)}, and must be (3 E, E)")
        projections = list(packed.chunk(3))
    else:
        projections = [get_weight(module, f"{which}_proj_weight", kind) for which in "qkv"]
    output = get_weight(module.out_proj, "weight", f"out_proj of {kind}")
    bias = getattr(module, "in_proj_bias", None)
    biases = [None] * 3 if bias is None else list(bias.chunk(3))
    rows = [getattr(module, name, None) for name in ("bias_k", "bias_v")]
    output_bias = getattr(module.out_proj, "bias", None)
    there = [each for each in (*projections, output, bias, output_bias, *rows) if each is not None]
    device, precision = place_of(module, there), precision_of_weights(module, there)
    added = [None if row is None else to_array(row).reshape(-1) for row in rows]
    query, key, value = map(to_array, projections)
    weights = Weights(
        query,
        key,
        value,
        to_array(output),
        query_bias=array_of(biases[0]),
        key_bias=array_of(biases[1]),
        value_bias=array_of(biases[2]),
        output_bias=array_of(output_bias),
        added_key=added[0],
        added_value=added[1],
    )
    settings = Settings(
        heads=module.num_heads,
        adds_zero=bool(getattr(module, "add_zero_attn", False)),
        batch_first=bool(getattr(module, "batch_first", False)),
    )
    return Described(_name_of(module), weights, settings, precision, device)


def read_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
    """The arguments of a call of the layer. One tensor alone is query, key and value."""
    if len(args) == 1 and not {"key", "value"} & kwargs.keys():
        args = (args[0],) * 3
    twice = [name for name in _NAMES[: len(args)] if name in kwargs]
    if twice:
        raise InputError(f"the layer is given {', '.join(twice)} twice: by place and by name")
    given = {**dict(zip(_NAMES, args, strict=False)), **kwargs}
    unknown = [name for name in given if name not in _NAMES]
    if unknown or len(args) > len(_NAMES):
        raise InputError(f"the layer takes {', '.join(_NAMES)}, not {', '.join(unknown) or 'so many arguments'}")
    missing = [name for name in _NAMES[:3] if not isinstance(given.get(name), torch.Tensor)]
    if missing:
        raise InputError(
            f"the layer is called with a tensor each for query, key and value: {', '.join(missing)} is none"
        )
    for name in ("key_padding_mask", "attn_mask"):
        if not isinstance(given.get(name), (torch.Tensor, type(None))):
            raise InputError(f"{name} is a {type(given[name]).__name__}, and must be a tensor")
    return Arguments(
        given["query"],
        given["key"],
        given["value"],
        given.get("key_padding_mask"),
        given.get("attn_mask"),
        bool(given.get("is_causal", False)),
    )


def measure_call(
    module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[int, tuple[int, int, int], int]:
    """H, B, L and S, and E of a call, without a look at any number. InputError for what is no call of the layer."""
    given = read_arguments(args, kwargs)
    shapes = [tuple(each.shape) for each in (given.query, given.key)]
    shapes = [(1, *shape) if len(shape) == 2 else shape for shape in shapes]
    if any(len(shape) != 3 for shape in shapes) or given.query.is_nested:
        raise InputError("the query and the key have neither two axes nor three")
    first, second = (0, 1) if given.query.ndim == 2 or getattr(module, "batch_first", False) else (1, 0)
    return int(module.num_heads), (shapes[0][first], shapes[0][second], shapes[1][second]), shapes[0][2]


def to_call(described: Described, arguments: Arguments, memory_bytes: int | None = None) -> Call:
    """The same call for the reference."""
    for which in ("query", "key", "value"):
        if getattr(arguments, which).is_nested:
            raise InputError(f"the {which} is a nested tensor, which is not re-derived")
    query = described.take(arguments.query, "query")
    key = query if arguments.key is arguments.query else described.take(arguments.key, "key")
    return Call(
        described.weights,
        replace(described.settings, is_causal=arguments.is_causal),
        query,
        key,
        key if arguments.value is arguments.key else described.take(arguments.value, "value"),
        described.precision,
        Masks(array_of(arguments.attn_mask), array_of(arguments.key_padding_mask)),
        memory_bytes,
        described.under_autocast,
    )


def sizes_of(described: Described, reference: Mapping[str, Array]) -> Sizes:
    """The sizes of the call."""
    batch, heads, length, keys = reference["weights"].shape
    given = reference["key_projection"].shape[1]
    size = reference["query_heads"].shape[-1]
    return Sizes(batch, length, keys, given, heads, described.settings.groups, size, described.precision.name)


def _name_of(module: torch.nn.Module) -> str:
    kind = type(module)
    return (
        "torch.nn.MultiheadAttention"
        if kind is torch.nn.MultiheadAttention
        else f"{kind.__module__}.{kind.__qualname__}"
    )
