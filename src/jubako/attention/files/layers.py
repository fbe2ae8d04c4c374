"""The attention layers of a file of weights, as the reference takes them; what is wrong with one is said of it."""

from __future__ import annotations

import os
import re

import numpy as np

from jubako.attention.checking.judge import Call
from jubako.attention.checking.precision import PRECISIONS, Precision
from jubako.attention.description import NO_MASKS, Norm, Settings, Weights, check_weights, unpack
from jubako.attention.files.config import ModelConfig, read_config
from jubako.attention.files.families import OPTIONAL, Family, find_tensors
from jubako.attention.files.known import FAMILIES
from jubako.attention.files.shards import open_any_weights
from jubako.errors import InputError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jubako.attention.description import Array, Masks
    from jubako.attention.files.shards import AnyWeights

__all__ = ["FileLayer", "Told", "find_file_layers"]

_REQUIRED = ("query", "key", "value")
_NO_HEADS = "how many heads it has does not follow from its weights"
_SAYS_HEADS = "--heads N says it, or a config.json beside the file"
_NAMED = 6  # of what is not known, in a sentence


@record
class Told:
    """What the caller says of the layers, which goes before what a table or config.json says."""

    family: Family | None = None  # from a table; None: those that are known
    heads: int | None = None
    key_heads: int | None = None
    config: str = ""  # the path of config.json; "": the one beside the file


@record
class FileLayer:
    """A layer of a file. `broken` says what is wrong with it, `unknown` what in it is not re-derived: then there are no
    weights.
    """

    name: str
    family: Family
    config: ModelConfig
    weights: Weights | None = None
    settings: Settings | None = None
    precision: Precision | None = None
    broken: str = ""
    unknown: str = ""

    def call(
        self, inputs: tuple[Array, Array, Array], masks: Masks = NO_MASKS, memory_bytes: int | None = None
    ) -> Call:
        """A call of the layer, batch first, with positions from 0 on. InputError if that cannot be."""
        assert self.weights is not None and self.settings is not None and self.precision is not None
        settings = self.settings
        length, keys = inputs[0].shape[-2], inputs[1].shape[-2]
        pairing, layer = self.family.pairing_in(self.config.model), _number_of(self.name)
        if pairing is not None:
            size = self.weights.query.shape[0] // settings.heads
            settings = replace(settings, rotary=self.config.rotary(layer, length, size, pairing))
        window = self.config.window_of(layer)
        if window is not None and keys > window:
            masks = replace(masks, attention=_with_window(masks.attention, length, keys, window))
        query, key, value = inputs
        return Call(self.weights, settings, query, key, value, self.precision, masks, memory_bytes)


def find_file_layers(path: str, told: Told) -> list[FileLayer]:
    """The layers of a file. InputError, with the names that are there, if none of them is known."""
    file = open_any_weights(path)
    config = read_config(told.config or os.path.join(os.path.dirname(file.path), "config.json"))
    families = FAMILIES if told.family is None else (told.family,)
    layers = [
        _read_layer(file, family, name, parts, _config_for(family, name, config, told))
        for family, name, parts in _best_matches(file, families, config.model)
    ]
    if not layers:
        raise InputError(
            f"{file.path} has no attention that is known by its names: {_summarise(file)}",
            hint="--map FILE tells which tensors are query, key, value and output.",
        )
    return layers


def _best_matches(file: AnyWeights, families: Sequence[Family], model: str) -> list[tuple[Family, str, dict[str, str]]]:
    """For each layer the family that knows the model, or else of which it lacks least: some begin with one name."""
    best: dict[str, tuple[tuple[bool, bool, int], Family, str, dict[str, str]]] = {}
    for family in families:
        for name, parts in find_tensors(family, file.tensors).items():
            lacks = len(family.templates.keys() - parts.keys() - {*OPTIONAL})
            badness = (model not in family.models, bool(family.refused), lacks)
            first = parts.get("packed") or parts["query"]
            if first not in best or badness < best[first][0]:
                best[first] = (badness, family, name, parts)
    return [match[1:] for match in best.values()]


def _config_for(family: Family, name: str, config: ModelConfig, told: Told) -> ModelConfig:
    """What holds: what was said goes before the table, and that before the file of the model."""
    numbers = family.numbers
    if "decoder" in name.split(".") and config.decoder_heads is not None:
        config = replace(config, heads=config.decoder_heads)

    def pick(name: str, said: int | None = None) -> int | None:
        return said if said is not None else int(numbers[name]) if name in numbers else getattr(config, name)

    return replace(
        config,
        heads=pick("heads", told.heads),
        key_heads=pick("key_heads", told.key_heads),
        head_size=pick("head_size"),
        scale=numbers.get("scale", config.scale),
        rope=replace(
            config.rope,
            theta=numbers.get("rope_theta", config.rope.theta),
            features=int(numbers["rotary_features"]) if "rotary_features" in numbers else config.rope.features,
        ),
    )


def _read_layer(
    file: AnyWeights, family: Family, name: str, parts: Mapping[str, str], config: ModelConfig
) -> FileLayer:
    layer = FileLayer(name or "the layer", family, config)
    if unknown := _find_unknown(file, family, name, parts, config):
        return replace(layer, unknown=unknown)
    try:
        precision = _precision(file, parts)
        weights = _read_weights(file, family, parts, config)
        settings = _settings(weights, family, name, config)
        size = check_weights(weights, settings)
        if pairing := family.pairing_in(config.model):
            config.rotary(_number_of(name), 1, size, pairing)  # which is to be refused here, if it cannot be
    except InputError as error:
        return replace(layer, broken=f"{error.message}{f' ({error.hint})' if error.hint else ''}")
    return replace(layer, weights=weights, settings=settings, precision=precision)


def _find_unknown(file: AnyWeights, family: Family, name: str, parts: Mapping[str, str], config: ModelConfig) -> str:
    """What is not re-derived of a layer, in a sentence; "" if all is. A table speaks for itself."""
    if family.refused:
        return f"it is a layer of {family.name}, which {family.refused}; that is not re-derived"
    if not family.models:
        return ""
    if config.model and config.model not in family.models:
        return f"it is of a model of type {config.model}, which is not known to attend as {family.name} does"
    found = [*_find_more(file, family, name, parts, config), *config.unknown]
    return f"it has {', '.join(found[:_NAMED])}, which is not re-derived" if found else ""


def _find_more(
    file: AnyWeights, family: Family, name: str, parts: Mapping[str, str], config: ModelConfig
) -> Iterator[str]:
    """Tensors that belong to a layer's attention and are none of the parts that are known of it."""
    own = name.removesuffix(family.suffix)
    stem = f"{own}{family.stem}" if family.stem.startswith(".") else f"{own}.{family.stem}".removeprefix(".")
    known = {*parts.values(), *(f"{stem}{each}" for each in family.harmless)}
    if config.norm is None:
        known -= {tensor for part, tensor in parts.items() if "norm" in part}
    yield from (tensor for tensor in file.tensors if tensor.startswith(stem) and tensor not in known)


def _number_of(name: str) -> int:
    """The number of a layer in its model, which is the last in its name: "h.3"; 0 if there is none."""
    return next((int(part) for part in reversed(name.split(".")) if re.fullmatch("[0-9]{1,9}", part)), 0)


def _with_window(mask: Array | None, length: int, keys: int, window: int) -> Array:
    """The mask, with those keys forbidden, too, that are `window` or more before the query: (..., L, S)."""
    too_early = np.arange(keys)[None, :] <= np.arange(length)[:, None] - window
    if mask is None or mask.dtype.kind == "b":
        return too_early if mask is None else mask | too_early
    return np.where(too_early, -np.inf, mask)


def _precision(file: AnyWeights, parts: Mapping[str, str]) -> Precision:
    kinds = {file.tensors[name].precision or file.tensors[name].dtype for name in parts.values()}
    if len(kinds) != 1 or not kinds <= PRECISIONS.keys():
        raise InputError(f"its tensors are {', '.join(sorted(kinds))}: one type of {', '.join(PRECISIONS)} is needed")
    return PRECISIONS[kinds.pop()]


def _read_weights(file: AnyWeights, family: Family, parts: Mapping[str, str], config: ModelConfig) -> Weights:
    arrays = {part: file.read(name) for part, name in parts.items()}
    for part in ("packed", *_REQUIRED, "output"):
        if part in arrays:
            if arrays[part].ndim != 2:
                raise InputError(f"{parts[part]} has shape {arrays[part].shape}: weights have two axes")
            if family.is_in_out:
                arrays[part] = arrays[part].T
    if "packed" in arrays:
        width = arrays["packed"].shape[1]
        packed = _unpack(arrays.pop("packed"), parts["packed"], width, family, config)
        arrays |= dict(zip(_REQUIRED, packed, strict=True))
    if "packed_bias" in arrays and arrays["packed_bias"].ndim != 1:
        raise InputError(f"{parts['packed_bias']} has shape {arrays['packed_bias'].shape}: a bias has one axis")
    if "packed_bias" in arrays:
        width = arrays["query"].shape[1] if "query" in arrays else 1
        packed = _unpack(arrays.pop("packed_bias"), parts["packed_bias"], width, family, config)
        arrays |= {f"{part}_bias": piece for part, piece in zip(_REQUIRED, packed, strict=True)}
    missing = [family.templates.get(part, part) for part in _REQUIRED if part not in arrays]
    wanted = ("output", *(("query_norm", "key_norm") if config.norm is not None else ()))
    missing += [family.templates[part] for part in wanted if part in family.templates and part not in arrays]
    if missing:
        raise InputError(f"the file lacks {', '.join(missing)}")
    for part in ("added_key", "added_value"):
        if part in arrays:
            arrays[part] = arrays[part].reshape(-1)
    return Weights(**arrays)


def _unpack(packed: Array, name: str, width: int, family: Family, config: ModelConfig) -> list[Array]:
    """Query, key and value out of one array; its layer takes `width` features."""
    rows, heads = packed.shape[0], config.heads
    if heads is None or (config.key_heads in (None, heads) and family.packing == "rows"):
        if family.packing != "rows":
            raise InputError(_NO_HEADS, hint=_SAYS_HEADS)
        if rows % 3:
            raise InputError(f"{name} has shape {packed.shape}: query, key and value must be equally many")
        return unpack(packed, 1, 1, "rows")
    size = config.head_size or max(width // heads, 1)
    groups = config.key_heads or (rows // size - heads) // 2
    if groups < 1 or heads % groups or rows != (heads + 2 * groups) * size:
        raise InputError(f"{name} has shape {packed.shape}, and H={heads}, Hk={groups} heads of D={size} are not that")
    return unpack(packed, heads, groups, family.packing)


def _settings(weights: Weights, family: Family, name: str, config: ModelConfig) -> Settings:
    heads = config.heads
    if heads is None:
        raise InputError(_NO_HEADS, hint=_SAYS_HEADS)
    if config.head_size is None and weights.query.shape[0] % heads:
        raise InputError(f"its query has {weights.query.shape[0]} features, which {heads} heads do not divide")
    size = config.head_size or max(weights.query.shape[0] // heads, 1)
    if heads * size != weights.query.shape[0]:
        raise InputError(
            f"its query has {weights.query.shape[0]} features, and H={heads} heads of D={size} are not that"
        )
    groups = config.key_heads or weights.key.shape[0] // size
    scale = config.scale
    if config.scales_by_layer:
        scale = (size**-0.5 if scale is None else scale) / (_number_of(name) + 1)
    is_causal = family.is_causal_in(name, config.model, is_decoder=config.is_decoder)
    norm = Norm() if config.norm is None else config.norm
    return Settings(heads, key_heads=groups, scale=scale, is_causal=is_causal, norm=norm, softcap=config.softcap)


def _summarise(file: AnyWeights) -> str:
    """Names with numbers taken out, so that layers look the same."""
    kinds: Sequence[str] = list(dict.fromkeys(re.sub(r"\d+", "N", name)[:60] for name in file.tensors))
    more = f" and {len(kinds) - 8} kinds more" if len(kinds) > 8 else ""
    return f"{len(file.tensors)} tensors, {', '.join(kinds[:8])}{more}" if kinds else "it is empty"
