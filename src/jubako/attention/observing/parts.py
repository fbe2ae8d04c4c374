"""The parts of attention modules of the transformers library and their kin, and why one is not re-derived.

A module is re-derived only where nothing in it is unknown. It may have its projections, dropout, norms of queries and
keys that are of a known kind, and nothing else that holds numbers; its projections are plain linear layers (an adapter
around one, or a quantised one, gives other numbers than its weights say); and where its `forward` is the library's,
that goes through the library's common interface and names nothing but what is known here. What is not known would make
right models wrong.
"""

from __future__ import annotations

import torch

from jubako.attention.observing.probing import TURN, describe_norm, forward_of_library
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["Parts", "find_cap", "find_parts", "find_reason_against", "find_strange_linear"]

_NAMES = (
    (("q_proj", "k_proj", "v_proj"), ("o_proj", "out_proj", "dense")),
    (("q_lin", "k_lin", "v_lin"), ("out_lin",)),
    (("qkv_proj",), ("o_proj",)),
    (("query_key_value",), ("dense",)),
)
_NORMS = (("q_norm", "k_norm"), ("q_layernorm", "k_layernorm"))
_SAY_NORMS = ("use_qk_norm", "qk_layernorm")  # settings that do nothing else
_HARMLESS = (torch.nn.Dropout, torch.nn.Identity)
_NAMED = 6  # of what is not known, in a sentence
_INTERFACE = "ALL_ATTENTION_FUNCTIONS"  # what the library computes attention by, eagerly, fused or otherwise
_KNOWN = {
    *("q_proj", "k_proj", "v_proj", "o_proj", "out_proj", "dense", "q_lin", "k_lin", "v_lin", "out_lin"),
    *("query", "key", "value", "c_attn", "c_proj", "split_size", "num_heads", "num_attention_heads", "head_size"),
    *("qkv_proj", "query_key_value", "layer_type", "is_sliding", "use_rope", "layer_past"),
    *("num_key_value_heads", "num_key_value_groups", "head_dim", "attention_head_size", "all_head_size", "embed_dim"),
    *("scaling", "scale", "config", "_attn_implementation", "training", "is_causal", "is_decoder", "layer_idx"),
    *("dropout", "attention_dropout", "attn_dropout", "resid_dropout", "dropout_p", "dropout_prob", "p"),
    *("residual_dropout", "nn", "functional"),
    *("sliding_window", "reorder_and_upcast_attn", "_upcast_and_reordered_attn", "rotary_ndims"),
    *(_INTERFACE, "get_interface", "eager_attention_forward", "apply_rotary_pos_emb", "EncoderDecoderCache"),
    *("is_cross_attention", "cross_attention_cache", "self_attention_cache", "is_updated", "layers", "keys", "values"),
    *("view", "reshape", "transpose", "permute", "contiguous", "size", "shape", "dtype", "device", "to", "split"),
    *("chunk", "cat", "update", "get", "isinstance", "hasattr", "getattr", "torch", "clamp_"),  # only by clip_qkv
    *("ValueError", "logger", "warning_once", "Tensor", "is_flash_attention_requested"),
}


@record
class Parts:
    """The linear layers of a module by name: one each, or one for all three. `inner` is what calls them."""

    inner: Any
    projections: dict[str, Any]  # query, key, value; or packed
    output: Any = None
    output_name: str = ""
    norms: tuple[Any, Any] | None = None  # of query and key


def find_parts(module: Any) -> Parts | None:
    """The parts, if it has those of one of the families by their names."""
    inner = getattr(module, "self", None) or module
    if found := _modules(inner, ("query", "key", "value")):
        dense = getattr(getattr(module, "output", None), "dense", None) if inner is not module else None
        return Parts(inner, found, dense, "output.dense" if dense is not None else "")
    if found := _modules(module, ("c_attn", "c_proj")):
        return Parts(module, {"c_attn": found["c_attn"]}, found["c_proj"], "c_proj")
    for names, outputs in _NAMES:
        if found := _modules(module, names):
            name = next((name for name in outputs if getattr(module, name, None) is not None), "")
            return Parts(module, found, getattr(module, name) if name else None, name, _find_norms(module))
    return None


def find_cap(inner: Any) -> float | None:
    """What the library caps its scores at, if it has that done; None if not."""
    cap = getattr(inner, "attn_logit_softcapping", None)
    forward = forward_of_library(inner)
    if forward is None or not isinstance(cap, (int, float)):
        return None
    said = {name for each in forward.__code__.co_consts for name in (each if isinstance(each, tuple) else (each,))}
    return float(cap) if "softcap" in said else None


def _find_norms(module: Any) -> tuple[Any, Any] | None:
    """The norms of query and key, of a kind that is known, that the library puts before any turn; None without."""
    forward = forward_of_library(module)
    names = () if forward is None else forward.__code__.co_names
    for pair in _NORMS:
        norms = tuple(getattr(module, name, None) for name in pair)
        if not all(isinstance(norm, torch.nn.Module) and name in names for norm, name in zip(norms, pair, strict=True)):
            continue
        if TURN in names and max(names.index(name) for name in pair) > names.index(TURN):
            continue
        kinds = [describe_norm(norm) for norm in norms]
        if None not in kinds and kinds[0][0] == kinds[1][0]:  # type: ignore[index]
            return norms  # type: ignore[return-value]
    return None


def find_reason_against(module: torch.nn.Module) -> str:
    """Why a module of a family is not re-derived: it does something more, or may do so; "" for all others."""
    parts = find_parts(module)
    if parts is None:
        return ""
    strange = find_strange_linear(parts)
    if strange:
        return strange
    more = list(dict.fromkeys((*_find_more(module, parts), *_find_settings(parts.inner))))
    if not more and not _uses_interface(parts.inner):
        return f"{type(parts.inner).__name__} computes attention in a way of its own, which is not re-derived"
    more = more or list(_find_names(parts))
    rest = f" and {len(more) - _NAMED} more" if len(more) > _NAMED else ""
    return f"it has {', '.join(more[:_NAMED])}{rest}, which is not re-derived" if more else ""


def find_strange_linear(parts: Parts) -> str:
    """Which of the projections are no plain linear layers; "" if all are."""
    named = {**parts.projections, **({parts.output_name: parts.output} if parts.output is not None else {})}
    strange = [f"{name} is a {_describe_kind(part)}" for name, part in named.items() if not _is_linear(part)]
    return f"{', '.join(strange)}, not a plain linear layer, and that is not re-derived" if strange else ""


def _describe_kind(part: Any) -> str:
    """Its class; with where it is from, if others call a plain layer the same."""
    kind = type(part)
    return f"{kind.__module__}.{kind.__qualname__}" if kind.__name__ in ("Linear", "Conv1D") else kind.__name__


def _modules(module: Any, names: tuple[str, ...]) -> dict[str, Any]:
    found = {name: getattr(module, name, None) for name in names}
    return found if all(isinstance(part, torch.nn.Module) for part in found.values()) else {}


def _is_linear(part: Any) -> bool:
    """True for torch's own, also where its weight is parametrized, and for GPT-2's, whose weight is turned."""
    kind = type(part)
    if isinstance(part, torch.nn.Linear):
        return kind.forward is torch.nn.Linear.forward
    return (kind.__name__, kind.__module__) == ("Conv1D", "transformers.pytorch_utils")


def _find_more(module: torch.nn.Module, parts: Parts) -> Iterator[str]:
    """What holds numbers, or may do something, besides the parts."""
    known = {*map(id, (*parts.projections.values(), *(parts.norms or ()))), id(parts.output), id(parts.inner)}
    for each in (module, parts.inner) if parts.inner is not module else (module,):
        for name, child in each.named_children():
            is_outer_output = each is not parts.inner and name == "output" and parts.output is not None
            if is_outer_output:
                yield from (f"{name}.{more}" for more in _find_more_after(child, parts.output))
            elif not (id(child) in known or isinstance(child, _HARMLESS)):
                yield name
        yield from (name for name, _ in each.named_parameters(recurse=False))
        yield from (name for name, _ in each.named_buffers(recurse=False))


def _find_more_after(child: Any, output: Any) -> Iterator[str]:
    """What a module around the last projection has besides that, a norm and dropout."""
    for name, part in child.named_children():
        if part is not output and not isinstance(part, (*_HARMLESS, torch.nn.LayerNorm)):
            yield name
    yield from (name for name, _ in child.named_parameters(recurse=False))


def _find_settings(inner: Any) -> Iterator[str]:
    """Settings that change what is computed, by the module itself or its configuration."""
    for holder in (inner, getattr(inner, "config", None)):
        yield from (
            name
            for name in ("attn_logit_softcapping", "clip_qkv", "sinks")
            if _is_set(getattr(holder, name, None)) and not (name.startswith("attn") and find_cap(inner) is not None)
        )
        positions = getattr(holder, "position_embedding_type", None)
        if positions not in (None, "absolute"):
            yield f"position_embedding_type {positions}"


def _is_set(value: Any) -> bool:
    return value is not None and value is not False


def _find_names(parts: Parts) -> Iterator[str]:
    """What the library's `forward` names that is not known: attributes that are set, operations, functions."""
    inner = parts.inner
    forward = forward_of_library(inner)
    if forward is None:
        return
    known = _KNOWN | {*_SAY_NORMS, *(name for pair in _NORMS for name in pair)} if parts.norms else _KNOWN
    known = known | {"attn_logit_softcapping"} if find_cap(inner) is not None else known
    for name in forward.__code__.co_names:
        if name in known:
            continue
        values = [getattr(holder, name, None) for holder in (inner, getattr(inner, "config", None))]
        is_set = any(map(_is_set, values))
        if is_set or name in forward.__globals__ or hasattr(torch.Tensor, name) or hasattr(torch, name):
            yield name


def _uses_interface(inner: Any) -> bool:
    forward = forward_of_library(inner)
    return forward is None or _INTERFACE in forward.__code__.co_names
