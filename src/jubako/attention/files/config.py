"""What a model's config.json says of its attention: how many heads, of what size, how positions turn them, what else.

A value that cannot be meant is refused by its name. What is understood and not re-derived is named in `unknown`.
"""

from __future__ import annotations

import json
import math
import os

import numpy as np

from jubako.attention.description import Rotary
from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from jubako.attention.description import Array, Pairing

__all__ = ["MOST_FEATURES", "MOST_HEADS", "THETAS", "ModelConfig", "Scaling", "read_config"]

MOST_HEADS = 1 << 16
MOST_FEATURES = 1 << 16  # of a head
THETAS = (1.0, 1e15)  # the base of the speeds of rotation
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads", "encoder_attention_heads")
_KNOWN = ("default", "linear", "llama3")
_FACTORS = (1e-6, 1e6)
_ALL_SLIDE = ("mistral", "mixtral")  # have their window in all layers
_CHANGES = ("attn_logit_softcapping", "clip_qkv", "use_qk_norm", "qk_layernorm", "alibi")  # if they are anything


@record
class Scaling:
    """How the speeds of rotation change for a longer context, as "linear" and "llama3" have it."""

    kind: str = "default"
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    before: float = 8192.0  # positions that the model was first trained with

    def apply(self, speeds: Array) -> Array:
        """The speeds, changed."""
        if self.kind == "default":
            return speeds
        if self.kind == "linear":
            return speeds / self.factor
        turns = self.before * speeds / (2 * math.pi)  # within the context that the model was first trained with
        share = np.clip((turns - self.low) / (self.high - self.low), 0.0, 1.0)  # 0: slowed down in full
        return speeds * (share + (1 - share) / self.factor)


@record
class ModelConfig:
    """What is said of attention; None, or "", where it is not."""

    model: str = ""  # "llama"
    heads: int | None = None
    decoder_heads: int | None = None
    key_heads: int | None = None
    head_size: int | None = None
    scale: float | None = None
    scales_by_layer: bool = False  # by 1 / (number of the layer + 1), too
    is_decoder: bool = False
    rope_theta: float = 10000.0
    rotary_share: float = 1.0  # of the features of a head
    rotary_features: int | None = None  # the same as a number
    scaling: Scaling = Scaling()
    window: int | None = None  # a query sees so many keys, itself included
    layer_types: tuple[str, ...] = ()  # of each layer: which of them have the window
    unknown: tuple[str, ...] = ()  # what is not re-derived

    def rotary(self, length: int, size: int, pairing: Pairing) -> Rotary:
        """The rotation of positions 0 to `length`, for heads of `size` features."""
        features = self.rotary_features or int(size * self.rotary_share) // 2 * 2
        if not 0 < features <= size:
            raise InputError(f"{features} features of a head are turned by position, and its head has D={size}")
        speeds = self.rope_theta ** (-np.arange(0, features, 2, dtype=np.float64) / features)
        angles = np.arange(length)[None, :, None] * self.scaling.apply(speeds)
        return Rotary(np.cos(angles), np.sin(angles), pairing)

    def window_of(self, layer: int) -> int | None:
        """How many keys a query of this layer sees; None: all of them."""
        if self.layer_types and (layer >= len(self.layer_types) or self.layer_types[layer] != "sliding_attention"):
            return None
        return self.window


def read_config(path: str) -> ModelConfig:
    """The configuration in a file; an empty one if there is no such file. InputError for what cannot be meant."""
    if not os.path.exists(path):
        return ModelConfig()
    try:
        with open(path, "rb") as file:
            config = json.loads(file.read(1 << 20))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} is no model's configuration")
    return _from(_Reader(path, config))


class _Reader:
    """Values of a table by name, each of its kind and within its range; None for those that are not there, or null."""

    def __init__(self, path: str, table: Mapping[str, Any]) -> None:
        self.path = path
        self.table = table

    def whole(self, name: str, most: int) -> int | None:
        value = self.table.get(name)
        if value is None:
            return None
        if type(value) is not int or not 1 <= value <= most:
            raise self._refuse(name, f"a whole number from 1 to {most}")
        return value

    def number(self, name: str, least: float, most: float) -> float | None:
        value = self.table.get(name)
        if value is None:
            return None
        if type(value) not in (int, float) or not least <= value <= most:
            raise self._refuse(name, f"a number from {least:g} to {most:g}")
        return float(value)

    def flag(self, name: str) -> bool | None:
        value = self.table.get(name)
        if value is not None and type(value) is not bool:
            raise self._refuse(name, "true or false")
        return value

    def text(self, name: str) -> str:
        value = self.table.get(name)
        if value is not None and not isinstance(value, str):
            raise self._refuse(name, "a text")
        return value or ""

    def inner(self, name: str) -> _Reader | None:
        value = self.table.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._refuse(name, "a table")
        return _Reader(self.path, value)

    def _refuse(self, name: str, wanted: str) -> InputError:
        return InputError(f"{self.path}: {name} is {str(self.table[name])[:40]}, and must be {wanted}")


def _from(config: _Reader) -> ModelConfig:
    rope = config.inner("rope_scaling") or config.inner("rope_parameters") or _Reader(config.path, {})
    scalar = config.number("query_pre_attn_scalar", 1e-6, 1e9)
    multiplier = config.number("attention_multiplier", 1e-9, 1e9)
    plain = 1.0 if config.flag("scale_attn_weights") is False else None
    heads = [config.whole(name, MOST_HEADS) for name in _HEADS]
    window = config.whole("sliding_window", 1 << 40) if config.flag("use_sliding_window") is not False else None
    types = config.table.get("layer_types") or ()
    model = config.text("model_type")
    unknown = list(_find_unknown(config, rope))
    if window and not types and model not in _ALL_SLIDE:
        unknown.append("sliding_window without layer_types, which say where it is")
    return ModelConfig(
        model=model,
        heads=next((count for count in heads if count), None),
        decoder_heads=config.whole("decoder_attention_heads", MOST_HEADS),
        key_heads=config.whole("num_key_value_heads", MOST_HEADS),
        head_size=config.whole("head_dim", MOST_FEATURES),
        scale=scalar**-0.5 if scalar else multiplier or plain,
        scales_by_layer=bool(config.flag("scale_attn_by_inverse_layer_idx")),
        is_decoder=bool(config.flag("is_decoder")),
        rope_theta=config.number("rope_theta", *THETAS) or rope.number("rope_theta", *THETAS) or 10000.0,
        rotary_share=_share(config) or _share(rope) or 1.0,
        scaling=_scaling(rope),
        window=window,
        layer_types=tuple(map(str, types)) if isinstance(types, list) else (),
        unknown=tuple(unknown),
    )


def _share(table: _Reader) -> float | None:
    return table.number("partial_rotary_factor", 1e-6, 1.0)


def _find_unknown(config: _Reader, rope: _Reader) -> Iterator[str]:
    yield from (name for name in _CHANGES if config.table.get(name) not in (None, False))
    positions = config.text("position_embedding_type")
    if positions not in ("", "absolute"):
        yield f"position_embedding_type {positions}"
    if any(isinstance(value, dict) for value in rope.table.values()):
        yield "positions that differ from layer to layer"
    elif _kind_of(rope) not in _KNOWN:
        yield f"positions of type {_kind_of(rope)}"


def _kind_of(rope: _Reader) -> str:
    return rope.text("rope_type") or rope.text("type") or "default"


def _scaling(rope: _Reader) -> Scaling:
    """How the speeds change; not at all, for types that are not known."""
    kind = _kind_of(rope)
    if kind not in _KNOWN or kind == "default":
        return Scaling()
    names = {"factor": "factor"}
    if kind == "llama3":
        names |= {"low": "low_freq_factor", "high": "high_freq_factor", "before": "original_max_position_embeddings"}
    found = {key: rope.number(name, *(_FACTORS if key != "before" else (1, 1e12))) for key, name in names.items()}
    missing = [names[key] for key, value in found.items() if value is None]
    if missing:
        raise InputError(f"{rope.path}: its positions are of type {kind!r}, and {', '.join(missing)} is missing")
    scaling = Scaling(kind, **{key: value for key, value in found.items() if value is not None})
    if not scaling.low < scaling.high:
        raise InputError(
            f"{rope.path}: low_freq_factor {scaling.low:g} must be less than {scaling.high:g}, the high one"
        )
    return scaling
