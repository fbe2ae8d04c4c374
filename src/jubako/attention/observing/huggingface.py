"""Attention modules of the transformers library, recognised by their parts, so that the library is not imported.

    self.{query,key,value}, output.dense     BERT and its kin; what follows in `output` is not attention
    {query,key,value}                        the same without an output of its own
    c_attn, c_proj                           GPT-2: one product for all three, weights stored (in, out)
    {q,k,v}_proj, o_proj or out_proj         LLaMA and its kin (rotary, grouped), ViT, BART
    {q,k,v}_lin, out_lin                     DistilBERT

They are observed while they are called: which kernel computes them is what the model was set to.
"""

from __future__ import annotations

import inspect

import numpy as np
import torch

from jubako.attention.checking.judge import Call
from jubako.attention.description import Masks, Rotary, Settings, Weights
from jubako.attention.observing.described import Described, precision_of_module
from jubako.attention.observing.roles import to_array
from jubako.errors import InputError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from jubako.attention.description import Array

__all__ = [
    "count_cached",
    "describe_transformer",
    "find_dropout",
    "find_reason_against",
    "gives_output",
    "is_transformer",
    "to_call",
]

_NAMES = ((("q_proj", "k_proj", "v_proj"), ("o_proj", "out_proj")), (("q_lin", "k_lin", "v_lin"), ("out_lin",)))
_SIZES = ("head_dim", "attention_head_size")
_UNKNOWN = ("q_norm", "k_norm", "sinks", "rotary_fn", "distance_embedding", "relative_attention_bias")


@record
class _Parts:
    """The linear layers of a module: one each, or one for all three."""

    query: Any
    key: Any
    value: Any
    output: Any
    packed: Any = None


def is_transformer(module: torch.nn.Module) -> bool:
    """True if the module has the parts of one of the families."""
    return _find_parts(module) is not None


def find_reason_against(module: torch.nn.Module) -> str:
    """Why a module of a family is not re-derived: it does something more; "" if nothing is known against it."""
    found = [name for name in _UNKNOWN if getattr(module, name, None) is not None]
    return f"it has {', '.join(found)}, which is not re-derived" if found else ""


def gives_output(module: torch.nn.Module) -> bool:
    """True if what the module returns first is the output of its attention, with nothing after it."""
    return not hasattr(module, "output") or not hasattr(module, "self")


def find_dropout(module: Any) -> tuple[float, bool]:
    """The share of weights that are dropped in this call, and whether some of the output is: none but in training."""
    if not module.training:
        return 0.0, False
    inner = getattr(module, "self", module)
    shares = {
        name: float(share if isinstance(share, (int, float)) else share.p)
        for name in ("attention_dropout", "attn_dropout", "dropout", "resid_dropout")
        if isinstance(share := getattr(inner, name, None), (int, float, torch.nn.Dropout))
    }
    resid = shares.pop("resid_dropout", 0.0)
    return max(shares.values(), default=0.0), resid > 0


def describe_transformer(module: Any) -> Described:
    """Its weights and settings."""
    parts = _find_parts(module)
    if parts is None:
        raise InputError(f"{type(module).__name__} has not the parts of an attention module")
    if parts.packed is not None:
        weight, bias = _linear(parts.packed)
        if weight.shape[0] % 3:
            raise InputError(f"{type(module).__name__} gives {weight.shape[0]} features, which 3 does not divide")
        projections = [*np.split(weight, 3)], [None] * 3 if bias is None else np.split(bias, 3)
    else:
        pairs = [_linear(part) for part in (parts.query, parts.key, parts.value)]
        projections = [weight for weight, _ in pairs], [bias for _, bias in pairs]
    output = (None, None) if parts.output is None else _linear(parts.output)
    query, key, value = projections[0]
    weights = Weights(
        query,
        key,
        value,
        output[0],
        query_bias=projections[1][0],
        key_bias=projections[1][1],
        value_bias=projections[1][2],
        output_bias=output[1],
    )
    inner = getattr(module, "self", module)
    size = next((getattr(inner, name) for name in _SIZES if getattr(inner, name, None) is not None), None)
    if size is None:
        raise InputError(f"{type(module).__name__} does not say how large its heads are")
    settings = Settings(
        heads=weights.query.shape[0] // size,
        key_heads=weights.key.shape[0] // size,
        scale=float(getattr(inner, "scaling", None) or size**-0.5),
    )
    kind = type(module)
    device = next(module.parameters()).device
    return Described(f"{kind.__module__}.{kind.__qualname__}", weights, settings, precision_of_module(module), device)


def to_call(
    module: torch.nn.Module,
    described: Described,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    memory_bytes: int | None,
) -> Call:
    """The same call for the reference. InputError for one that it cannot follow: with keys from earlier calls."""
    given = _bind(module, args, kwargs)
    hidden = given["hidden_states"]
    inner = getattr(module, "self", module)
    others = next(
        (given[name] for name in ("encoder_hidden_states", "key_value_states") if given.get(name) is not None), None
    )
    # Some are told of others and ignore them.
    is_cross = bool(getattr(module, "is_cross_attention", others is not None))
    keys = others if is_cross and others is not None else hidden
    mask = given.get("encoder_attention_mask" if is_cross and "encoder_attention_mask" in given else "attention_mask")
    is_causal = given.get("is_causal")
    is_causal = bool(getattr(inner, "is_causal", False) if is_causal is None else is_causal)
    settings = replace(
        described.settings,
        is_causal=is_causal and mask is None and hidden.shape[1] > 1,
        rotary=_rotary(given.get("position_embeddings")),
    )
    return Call(
        described.weights,
        settings,
        to_array(hidden),
        to_array(keys),
        to_array(keys),
        described.precision,
        Masks(None if mask is None else _mask(mask, keys.shape[1])),
        memory_bytes,
    )


def _find_parts(module: Any) -> _Parts | None:
    inner = getattr(module, "self", None) or module
    if all(_is_linear(getattr(inner, name, None)) for name in ("query", "key", "value")):
        dense = getattr(getattr(module, "output", None), "dense", None)
        return _Parts(inner.query, inner.key, inner.value, dense)
    if _is_linear(getattr(module, "c_attn", None)) and _is_linear(getattr(module, "c_proj", None)):
        is_cross = hasattr(module, "q_attn")
        return None if is_cross else _Parts(None, None, None, module.c_proj, packed=module.c_attn)
    for names, outputs in _NAMES:
        parts = [getattr(module, name, None) for name in names]
        if all(map(_is_linear, parts)):
            output = next((getattr(module, name) for name in outputs if hasattr(module, name)), None)
            return _Parts(parts[0], parts[1], parts[2], output)
    return None


def _is_linear(part: Any) -> bool:
    return isinstance(getattr(part, "weight", None), torch.Tensor) and part.weight.ndim == 2


def _linear(part: Any) -> tuple[Array, Array | None]:
    """Weights as (out, in), and the bias."""
    weight = to_array(part.weight)
    bias = getattr(part, "bias", None)
    return (weight.T if type(part).__name__ == "Conv1D" else weight), None if bias is None else to_array(bias)


def _bind(module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name, those among `**kwargs` too."""
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    given = dict(bound.arguments)
    for name, parameter in inspect.signature(module.forward).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            given.update(given.pop(name, {}))
    if not isinstance(given.get("hidden_states"), torch.Tensor):
        raise InputError(f"{type(module).__name__} is called without hidden_states")
    return given


def count_cached(module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """How many keys of earlier calls a call is to use, which has not begun."""
    given, inner = _bind(module, args, kwargs), getattr(module, "self", module)
    for name in ("cache", "past_key_values", "past_key_value"):
        cache = given.get(name)
        if cache is not None and hasattr(cache, "get_seq_length"):
            return int(cache.get_seq_length(getattr(inner, "layer_idx", 0) or 0))
    return 0


def _mask(mask: torch.Tensor, keys: int) -> Array:
    """As torch's layer takes it: the library's booleans allow where True."""
    if mask.ndim != 4:
        raise InputError(f"its attention mask has {mask.ndim} axes, and must have 4: (B, 1 or H, L, S)")
    array = to_array(mask[..., :keys])
    return ~array if array.dtype.kind == "b" else array


def _rotary(embeddings: Any) -> Rotary | None:
    if embeddings is None:
        return None
    cosines, sines = (to_array(each) for each in embeddings)
    half = cosines.shape[-1] // 2
    if np.array_equal(cosines[..., :half], cosines[..., half:]):
        return Rotary(cosines[..., :half].astype(np.float64), sines[..., :half].astype(np.float64), "halves")
    return Rotary(cosines[..., ::2].astype(np.float64), sines[..., ::2].astype(np.float64), "interleaved")
