"""Attention modules of the transformers library, recognised by their parts, so that the library is not imported.

    self.{query,key,value}, output.dense     BERT and its kin; what follows in `output` is not attention
    {query,key,value}                        the same without an output of its own
    c_attn, c_proj                           GPT-2: one product for all three, weights stored (in, out)
    {q,k,v}_proj, o_proj, out_proj or dense  LLaMA and its kin (rotary, grouped), ViT, BART, Phi
    {q,k,v}_lin, out_lin                     DistilBERT
    qkv_proj, o_proj                         Phi-3: query, key and value one above the other
    query_key_value, dense                   GPT-NeoX: the same for each head by itself

Norms of query and key (q_norm, k_norm) are theirs, too, as far as their kind is known. They are observed while they are
called: which kernel computes them is what the model was set to.
"""

from __future__ import annotations

import inspect

import numpy as np
import torch

from jubako.attention.checking.judge import Call, Observed
from jubako.attention.checking.rounding import round_to
from jubako.attention.description import Masks, Norm, Rotary, Settings, Weights, unpack
from jubako.attention.observing.caches import layer_of_cache
from jubako.attention.observing.described import Described, get_weight, place_of, precision_of_weights
from jubako.attention.observing.parts import find_cap, find_parts, find_reason_against
from jubako.attention.observing.probing import describe_norm, find_pairing, turns_heads
from jubako.attention.observing.roles import find_steps, to_array
from jubako.attention.observing.ways import NOT_SEEN, find_dropped_steps
from jubako.errors import InputError
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from jubako.attention.description import Array, Packing, Past
    from jubako.attention.observing.roles import Sizes
    from jubako.attention.observing.trace import Trace

__all__ = [
    "describe_transformer",
    "find_cache",
    "find_reason_against",
    "is_transformer",
    "measure_call",
    "observe",
    "to_call",
]

_SIZES = ("head_dim", "attention_head_size", "head_size")
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head")
_SCALES = ("scaling", "scale")
_AFTER_OUTPUT = ("resid_dropout", "residual_dropout")
_OTHERS = ("encoder_hidden_states", "key_value_states")
_TENSORS = (
    *("hidden_states", "attention_mask", "encoder_attention_mask", "position_embeddings", *_OTHERS),
    *("position_ids", "cache_position"),  # which have done their work in the mask and the position embeddings
)


def is_transformer(module: torch.nn.Module) -> bool:
    """True if the module has the parts of one of the families."""
    return find_parts(module) is not None


def _gives_output(module: torch.nn.Module) -> bool:
    """True if what the module returns first is the output of its attention, with nothing after it."""
    return not hasattr(module, "output") or not hasattr(module, "self")


def _find_dropout(module: Any) -> tuple[float, bool]:
    """The share of weights that are dropped in training, and whether some of the output is."""
    inner = getattr(module, "self", module)
    shares = {
        name: float(share if isinstance(share, (int, float)) else share.p)
        for name in ("attention_dropout", "attn_dropout", "dropout", *_AFTER_OUTPUT)
        if isinstance(share := getattr(inner, name, None), (int, float, torch.nn.Dropout))
    }
    after = max(shares.pop(name, 0.0) for name in _AFTER_OUTPUT)
    return max(shares.values(), default=0.0), after > 0


def describe_transformer(module: Any) -> Described:
    """Its weights and settings."""
    parts = find_parts(module)
    if parts is None:
        raise InputError(f"{type(module).__name__} has not the parts of an attention module")
    named = {**parts.projections, **({} if parts.output is None else {parts.output_name: parts.output})}
    there = [get_weight(part, "weight", name) for name, part in named.items()]
    there += [part.bias for part in named.values() if getattr(part, "bias", None) is not None]
    device, precision = place_of(module, there), precision_of_weights(module, there)
    inner = parts.inner
    size = next((getattr(inner, name) for name in _SIZES if getattr(inner, name, None) is not None), None)
    if size is None:
        raise InputError(f"{type(module).__name__} does not say how large its heads are")
    projections = _read_projections(inner, parts.projections, size)
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
    described = [None] if parts.norms is None else [describe_norm(norm) for norm in parts.norms]
    norm = Norm() if described[0] is None else described[0][0]
    for which, found in zip(("query", "key"), described, strict=False):
        if found is not None:
            weights = replace(weights, **{f"{which}_norm": found[1], f"{which}_norm_bias": found[2]})
    settings = Settings(
        heads=weights.query.shape[0] // size,
        key_heads=weights.key.shape[0] // size,
        scale=next((float(scale) for name in _SCALES if (scale := getattr(inner, name, None)) is not None), size**-0.5),
        norm=norm,
        softcap=find_cap(inner),
    )
    kind = type(module)
    return Described(f"{kind.__module__}.{kind.__qualname__}", weights, settings, precision, device)


def observe(
    module: Any, trace: Trace, sizes: Sizes, reference: Mapping[str, Array], result: Any, *, in_training: bool
) -> Observed:
    """What a call showed of its steps, and gave back."""
    dropout, drops_output = _find_dropout(module) if in_training else (0.0, False)
    find = find_dropped_steps if dropout else find_steps
    values = find(trace, sizes, reference, is_training=dropout > 0)
    results = result if isinstance(result, tuple) else (result,)
    if _gives_output(module):
        values["output"] = to_array(results[0])
    if len(results) > 1 and isinstance(results[1], torch.Tensor) and not dropout:
        values["weights"] = round_to(to_array(results[1]), sizes.dtype)  # more precise only under autocast
    notes = [NOT_SEEN] if dropout and "weights" not in values else []
    if drops_output:
        values.pop("output", None)
        notes.append("the output is not compared: something is left out of it")
    return Observed(_way(module, values), values, notes=notes, dropout=dropout)


def _way(module: Any, values: Mapping[str, Any]) -> str:
    """Which kernel computed it."""
    config = getattr(module, "config", None) or getattr(getattr(module, "self", None), "config", None)
    kind = getattr(config, "_attn_implementation", None)
    return f"as called, {kind or ('plain' if 'weights' in values else 'fused')}"


def measure_call(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[int, tuple[int, int, int], int]:
    """H, B, L and S without what a cache holds, and E of a call, of which no number is looked at."""
    given = _bind(module, args, kwargs)
    hidden, others = given["hidden_states"], _states_of_others(module, given)
    inner: Any = getattr(module, "self", module)
    named = (getattr(holder, name, None) for holder in (inner, getattr(inner, "config", None)) for name in _HEADS)
    heads = next((count for count in named if isinstance(count, int)), 1)
    batch, length, features = hidden.shape
    return heads, (batch, length, length if others is None else others.shape[1]), features


def to_call(
    module: torch.nn.Module,
    described: Described,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    kept: tuple[Past | None, Past | None] = (None, None),
    memory_bytes: int | None = None,
) -> Call:
    """The same call for the reference, with what a cache holds before its keys, and behind.

    InputError for one that it cannot follow.
    """
    given = _bind(module, args, kwargs)
    hidden = given["hidden_states"]
    inner = getattr(module, "self", module)
    unknown = [name for name, value in given.items() if name not in _TENSORS and _holds_tensors(value)]
    if unknown:
        raise InputError(f"it is called with {', '.join(unknown)}, which is not re-derived")
    others = _states_of_others(module, given)
    is_cross = others is not None
    keys = others if others is not None else hidden
    mask = given.get("encoder_attention_mask" if is_cross and "encoder_attention_mask" in given else "attention_mask")
    is_causal = given.get("is_causal")
    is_causal = bool(getattr(inner, "is_causal", False) if is_causal is None else is_causal)
    past, spare = kept
    before = keys.shape[1] + (0 if past is None else past.length)
    if mask is None or mask.shape[-1] == before:  # the library leaves away what is behind
        spare = None
    settings = replace(
        described.settings,
        is_causal=is_causal and mask is None and hidden.shape[1] > 1,
        rotary=_rotary(given.get("position_embeddings"), inner) if turns_heads(inner) else None,
        past=past,
        spare=spare,
    )
    inputs = described.take(hidden, "hidden states")
    others_taken = described.take(keys, "states of the other sequence") if is_cross else inputs
    masks = Masks(None if mask is None else _mask(mask, settings.kept_length + keys.shape[1]))
    return Call(
        described.weights,
        settings,
        inputs,
        others_taken,
        others_taken,
        described.precision,
        masks,
        memory_bytes,
        described.under_autocast,
    )


def _read_projections(inner: Any, parts: Mapping[str, Any], size: int) -> tuple[list[Array], list[Array | None]]:
    """Weights and biases of query, key and value, whether each has its own linear layer or all have one."""
    if len(parts) == 3:
        pairs = [_linear(part) for part in parts.values()]
        return [weight for weight, _ in pairs], [bias for _, bias in pairs]
    (name, part), *_ = parts.items()
    weight, bias = _linear(part)
    heads, groups = weight.shape[0] // (3 * size), weight.shape[0] // (3 * size)
    if name == "qkv_proj":
        heads = int(inner.config.num_attention_heads)
        groups = int(getattr(inner.config, "num_key_value_heads", None) or heads)
    packing: Packing = "groups" if name == "query_key_value" else "rows"
    if weight.shape[0] != (heads + 2 * groups) * size:
        raise InputError(
            f"{name} gives {weight.shape[0]} features, and H={heads}, Hk={groups} heads of D={size} are not that"
        )
    biases = [None] * 3 if bias is None else unpack(bias, heads, groups, packing)
    return unpack(weight, heads, groups, packing), biases


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


def find_cache(module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The part of a cache that a call appends its keys to; None without one, and for states of another sequence.

    Those follow from the states that come with the call, whether they are computed now or were by an earlier call.
    """
    given = _bind(module, args, kwargs)
    return layer_of_cache(module, given) if _states_of_others(module, given) is None else None


def _states_of_others(module: torch.nn.Module, given: Mapping[str, Any]) -> Any:
    """The states of another sequence that a call attends to; None if it attends to its own."""
    others = next((given[name] for name in _OTHERS if given.get(name) is not None), None)
    return others if getattr(module, "is_cross_attention", True) else None  # some are told of others and ignore them


def _holds_tensors(value: Any) -> bool:
    parts = value if isinstance(value, (tuple, list)) else (value,)
    return any(isinstance(part, torch.Tensor) for part in parts)


def _mask(mask: torch.Tensor, keys: int) -> Array:
    """As torch's layer takes it: the library's booleans allow where True."""
    if mask.ndim != 4:
        raise InputError(f"its attention mask has {mask.ndim} axes, and must have 4: (B, 1 or H, L, S)")
    array = to_array(mask[..., :keys])
    return ~array if array.dtype.kind == "b" else array


def _rotary(embeddings: Any, inner: Any) -> Rotary | None:
    """The turns of a call. How cosines lie in their table, and which features they turn, are two different things."""
    if embeddings is None:
        return None
    pairing = find_pairing(inner, embeddings[0])
    cosines, sines = (to_array(each).astype(np.float64) for each in embeddings)
    half = cosines.shape[-1] // 2
    if np.array_equal(cosines[..., :half], cosines[..., half:]):
        return Rotary(cosines[..., :half], sines[..., :half], pairing or "halves")
    return Rotary(cosines[..., ::2], sines[..., ::2], pairing or "interleaved")
