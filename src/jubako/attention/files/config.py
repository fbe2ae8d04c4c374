"""What a model's config.json says of its attention: how many heads, of what size, how positions turn them, what else.

A value that cannot be meant is refused by its name. What is understood and not re-derived is named in `unknown`.
"""

from __future__ import annotations

import json
import os

from jubako.attention.description import Norm
from jubako.attention.files import models
from jubako.attention.files.positions import KINDS, THETAS, Rope, kind_of, read_rope
from jubako.attention.files.reader import Reader
from jubako.errors import InputError
from jubako.records import field, record, replace
from jubako.verify.content import open_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from jubako.attention.description import Pairing, Rotary

__all__ = ["MOST_FEATURES", "MOST_HEADS", "ModelConfig", "read_config"]

MOST_HEADS = 1 << 16
MOST_FEATURES = 1 << 16  # of a head
_MOST_LAYERS = 1 << 16
_MOST_BYTES = 16 << 20
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads", "encoder_attention_heads")
_CHANGES = ("clip_qkv", "alibi", "use_bidirectional_attention")  # if they are anything
_PARTS = {  # as modules are called, and as the tables of their configurations begin
    "text_model": "text",
    "language_model": "text",
    "vision_model": "vision",
    "vision_tower": "vision",
    "visual": "vision",
    "audio_model": "audio",
    "audio_tower": "audio",
}
_SLIDES, _SEES_ALL = "sliding_attention", "full_attention"


@record
class ModelConfig:
    """What is said of attention; None, or "", where it is not."""

    is_there: bool = False
    model: str = ""  # "llama"
    heads: int | None = None
    decoder_heads: int | None = None
    key_heads: int | None = None
    head_size: int | None = None
    scale: float | None = None
    scales_by_layer: bool = False  # by 1 / (number of the layer + 1), too
    is_decoder: bool = False
    rope: Rope = Rope()
    sliding_rope: Rope | None = None  # of layers with a window, where that is another
    unturned: tuple[bool, ...] = ()  # of each layer: True where positions do not turn its heads
    turns_where_sliding: bool = False  # no layers but those with a window
    norm: Norm | None = None  # of queries and keys, if it is known to have some
    softcap: float | None = None
    window: int | None = None  # a query sees so many keys, itself included
    layer_types: tuple[str, ...] = ()  # of each layer: which of them have the window
    period: int = 0  # where layer_types are not said: each so-manieth layer has no window
    first_sliding: int | None = None  # or those before this have none
    unknown: tuple[str, ...] = ()  # what is not re-derived
    parts: Mapping[str, ModelConfig] = field(
        default_factory=dict
    )  # of models made of models: "text", "vision", "audio"

    def of_layer(self, name: str) -> ModelConfig:
        """What is said of the model that a layer of this name is in, which may be a part of the whole."""
        words = name.split(".")
        return next((self.parts[part] for word in words if (part := _PARTS.get(word, "")) in self.parts), self)

    def rotary(self, layer: int, length: int, size: int, pairing: Pairing) -> Rotary | None:
        """The rotation of positions 0 to `length`, for heads of `size` features; None if this layer turns none."""
        slides = self.window_of(layer) is not None
        if (layer < len(self.unturned) and self.unturned[layer]) or (self.turns_where_sliding and not slides):
            return None
        rope = self.sliding_rope if self.sliding_rope is not None and slides else self.rope
        return rope.rotary(length, size, pairing)

    def window_of(self, layer: int) -> int | None:
        """How many keys a query of this layer sees; None: all of them."""
        if self.layer_types:
            slides = layer < len(self.layer_types) and self.layer_types[layer] == _SLIDES
        elif self.first_sliding is not None:
            slides = layer >= self.first_sliding
        else:
            slides = not self.period or (layer + 1) % self.period != 0
        return self.window if slides else None


def read_config(path: str) -> ModelConfig:
    """The configuration in a file; an empty one if there is no such file. InputError for what cannot be meant."""
    if not os.path.exists(path):
        return ModelConfig()
    try:
        with open_regular(path) as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise InputError(f"{path} is too large for a model's configuration: {_MOST_BYTES:,} bytes are read")
        config = json.loads(text)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} is no model's configuration")
    whole = Reader(path, config)
    inner = {part: whole.inner(f"{part}_config") for part in dict.fromkeys(_PARTS.values())}
    parts = {part: _read(reader) for part, reader in inner.items() if reader is not None}
    return replace(_read(whole), parts=parts)


def _read(plain: Reader) -> ModelConfig:
    model = plain.text("model_type")
    return _from(Reader(plain.path, plain.table, models.DEFAULTS.get(model, {})), model)


def _from(config: Reader, model: str) -> ModelConfig:
    scalar = config.number("query_pre_attn_scalar", 1e-6, 1e9)
    multiplier = config.number("attention_multiplier", 1e-9, 1e9)
    plain = 1.0 if config.flag("scale_attn_weights") is False else None
    lists = [name for name in _HEADS if isinstance(config.value(name), list)]
    heads = [config.whole(name, MOST_HEADS) for name in _HEADS if name not in lists]
    ropes, of_ropes = _read_ropes(config, model)
    unknown = [*_find_unknown(config, model), *of_ropes, *(f"{name} that differ from layer to layer" for name in lists)]
    window = config.whole("sliding_window", 1 << 40) if config.flag("use_sliding_window") is not False else None
    types = tuple(map(str, config.list("layer_types") or ()))
    period = config.whole("sliding_window_pattern", _MOST_LAYERS) if type(config.value(_PATTERN)) is not str else None
    first = config.whole("max_window_layers", _MOST_LAYERS) if model in models.SLIDING and not types else None
    if window and not types and first is None and not period and model not in models.ALL_SLIDE:
        unknown.append("sliding_window without layer_types, which say where it is")
    unknown += [f"layers of type {kind[:40]}" for kind in dict.fromkeys(types) if kind not in (_SLIDES, _SEES_ALL)]
    return ModelConfig(
        is_there=True,
        model=model,
        heads=next((count for count in heads if count), None),
        decoder_heads=config.whole("decoder_attention_heads", MOST_HEADS),
        key_heads=_read_key_heads(config, model),
        head_size=config.whole("head_dim", MOST_FEATURES),
        scale=scalar**-0.5 if scalar else multiplier or plain,
        scales_by_layer=bool(config.flag("scale_attn_by_inverse_layer_idx")),
        is_decoder=bool(config.flag("is_decoder")),
        rope=ropes[0],
        sliding_rope=ropes[1],
        unturned=_read_unturned(config, model),
        turns_where_sliding=model in models.TURNED_WHERE_SLIDING and window is not None,
        norm=_read_norm(config, model),
        softcap=config.number("attn_logit_softcapping", 1e-3, 1e6) if model in models.CAPPED else None,
        window=window,
        layer_types=types,
        period=period or 0,
        first_sliding=first,
        unknown=tuple(unknown),
    )


_PATTERN = "sliding_window_pattern"  # in EXAONE 4 it may be a text, "LLLG", beside layer_types


def _read_key_heads(config: Reader, model: str) -> int | None:
    if model != "falcon":
        return config.whole("num_key_value_heads", MOST_HEADS)
    if config.flag("new_decoder_architecture"):
        return config.whole("num_kv_heads", MOST_HEADS)
    return 1 if config.flag("multi_query") else None


def _read_norm(config: Reader, model: str) -> Norm | None:
    """The kind of norms of queries and keys."""
    flag = models.NORM_FLAGS.get(model)
    if model not in models.HAVE_NORMS or (flag is not None and not config.flag(flag)):
        return None
    takes_mean = model in models.LAYER_NORMS
    epsilon = config.number("layer_norm_eps" if takes_mean else "rms_norm_eps", 0.0, 1.0)
    return Norm(
        (1e-5 if takes_mean else 1e-6) if epsilon is None else epsilon,
        1.0 if model in models.ADD_ONE_TO_NORMS else 0.0,
        takes_mean=takes_mean,
    )


def _read_unturned(config: Reader, model: str) -> tuple[bool, ...]:
    """Of each layer whether positions leave its heads alone."""
    if model != "smollm3":
        return ()
    said = config.list("no_rope_layers")
    if said:
        return tuple(not each for each in said)
    every = config.whole("no_rope_layer_interval", _MOST_LAYERS) or 1
    return tuple((layer + 1) % every == 0 for layer in range(config.whole("num_hidden_layers", _MOST_LAYERS) or 0))


def _read_ropes(config: Reader, model: str) -> tuple[tuple[Rope, Rope | None], list[str]]:
    """How positions turn heads in all layers, or in those that see all and those with a window; what is not known."""
    rope = config.inner("rope_scaling") or config.inner("rope_parameters") or Reader(config.path, {})
    theta = next((number for name in ("rope_theta", "rotary_emb_base") if (number := _theta(config, name))), 10000.0)
    shares = (config.number(name, 1e-6, 1.0) for name in ("partial_rotary_factor", "rotary_pct"))
    share = next((number for number in shares if number), 1.0)
    by_layer = {name: each for name, each in rope.table.items() if isinstance(each, dict)}
    if by_layer and not by_layer.keys() <= {_SLIDES, _SEES_ALL}:
        return (Rope(), None), ["positions that differ from layer to layer"]
    tables = {name: Reader(config.path, each) for name, each in by_layer.items()} or {_SEES_ALL: rope}
    unknown = [f"positions of type {kind_of(table)}" for table in tables.values() if kind_of(table) not in KINDS]
    found = {name: read_rope(table, config, theta) for name, table in tables.items()}
    local = _theta(config, "rope_local_base_freq")
    if model == "gemma3_text" and _SLIDES not in found:
        found[_SLIDES] = Rope(theta=local or 10000.0)
    elif model == "olmo3" and not by_layer and kind_of(rope) != "default":
        unknown.append("positions whose layers are not said")
    ropes = {name: each if each.share != 1 else replace(each, share=share) for name, each in found.items()}
    features = config.whole("rotary_dim", MOST_FEATURES) if model == "gptj" else None
    ropes = {name: replace(each, features=features) for name, each in ropes.items()}
    sees_all = ropes.get(_SEES_ALL)
    return (sees_all if sees_all is not None else Rope(), ropes.get(_SLIDES)), unknown


def _theta(config: Reader, name: str) -> float | None:
    return config.number(name, *THETAS)


def _find_unknown(config: Reader, model: str) -> Iterator[str]:
    names = _CHANGES if model in models.CAPPED else (*_CHANGES, "attn_logit_softcapping")
    names = names if model in models.HAVE_NORMS else (*names, "use_qk_norm", "qk_layernorm")
    yield from (name for name in names if _is_set(config.value(name)))
    positions = config.text("position_embedding_type")
    if positions not in ("", "absolute"):
        yield f"position_embedding_type {positions}"


def _is_set(value: Any) -> bool:
    return value is not None and value is not False
