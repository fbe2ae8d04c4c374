"""What a model's config.json says of its attention: how many heads, of what size, and how positions turn them."""

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
    from collections.abc import Mapping
    from typing import Any

    from jubako.attention.description import Array, Pairing

__all__ = ["ModelConfig", "read_config"]

_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads", "encoder_attention_heads")
_KNOWN = ("default", "linear", "llama3")


@record
class ModelConfig:
    """What is said of the heads; None where it is not."""

    heads: int | None = None
    key_heads: int | None = None
    head_size: int | None = None
    scale: float | None = None
    rope_theta: float = 10000.0
    rotary_share: float = 1.0  # of the features of a head
    scaling: Mapping[str, Any] | None = None  # of the positions

    def rotary(self, length: int, size: int, pairing: Pairing) -> Rotary:
        """The rotation of positions 0 to `length`, for heads of `size` features."""
        features = int(size * self.rotary_share) // 2 * 2
        speeds = self.rope_theta ** (-np.arange(0, features, 2, dtype=np.float64) / features)
        angles = np.arange(length)[None, :, None] * self._scaled(speeds)
        return Rotary(np.cos(angles), np.sin(angles), pairing)

    def _scaled(self, speeds: Array) -> Array:
        """The speeds of rotation as a longer context changes them."""
        scaling = dict(self.scaling or {})
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        if kind not in _KNOWN:
            raise InputError(f"its positions are of type {kind!r}, which is not re-derived: {', '.join(_KNOWN)} are")
        if kind == "default":
            return speeds
        try:
            factor = float(scaling["factor"])
            if kind == "linear":
                return speeds / factor
            low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
            before = float(scaling["original_max_position_embeddings"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"its positions are of type {kind!r}, and {error} is missing or no number") from error
        turns = before * speeds / (2 * math.pi)  # within the context that the model was first trained with
        share = np.clip((turns - low) / (high - low), 0.0, 1.0)  # 0: slowed down in full
        return speeds * (share + (1 - share) / factor)


def read_config(path: str) -> ModelConfig:
    """The configuration in a file; an empty one if there is no such file. InputError for what cannot be read."""
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
    return _from(config)


def _from(config: dict[str, Any]) -> ModelConfig:
    rope = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or (rope if isinstance(rope, dict) else {})
    scalar = _number(config, ("query_pre_attn_scalar",))
    return ModelConfig(
        heads=_whole(config, _HEADS),
        key_heads=_whole(config, ("num_key_value_heads",)),
        head_size=_whole(config, ("head_dim",)),
        scale=scalar**-0.5 if scalar else None,
        rope_theta=_number(config, ("rope_theta",)) or _number(scaling, ("rope_theta",)) or 10000.0,
        rotary_share=_number(config, ("partial_rotary_factor",)) or _number(scaling, ("partial_rotary_factor",)) or 1.0,
        scaling=scaling,
    )


def _whole(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((config[name] for name in names if type(config.get(name)) is int and config[name] > 0), None)


def _number(config: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    return next((float(config[n]) for n in names if type(config.get(n)) in (int, float) and config[n] > 0), None)
