"""The attention layers of a file of weights, as the reference takes them; what is wrong with one is said of it."""

from __future__ import annotations

import os
import re

import numpy as np

from jubako.attention.checking.judge import Call
from jubako.attention.checking.precision import PRECISIONS, Precision
from jubako.attention.description import NO_MASKS, Settings, Weights, check_weights
from jubako.attention.files.config import ModelConfig, read_config
from jubako.attention.files.families import FAMILIES, Family, find_tensors
from jubako.errors import InputError
from jubako.records import record, replace
from jubako.verify.weight_file import open_weights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jubako.attention.description import Array, Masks
    from jubako.verify.weight_file import WeightFile

__all__ = ["FileLayer", "Told", "find_file_layers", "path_of_weights"]

_REQUIRED = ("query", "key", "value")


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
        pairing = self.family.pairing_in(self.config.model)
        if pairing is not None:
            size = self.weights.query.shape[0] // settings.heads
            settings = replace(settings, rotary=self.config.rotary(length, size, pairing))
        window = self.config.window_of(_number_of(self.name))
        if window is not None and keys > window:
            masks = replace(masks, attention=_with_window(masks.attention, length, keys, window))
        query, key, value = inputs
        return Call(self.weights, settings, query, key, value, self.precision, masks, memory_bytes)


def path_of_weights(path: str) -> str:
    """The file of weights: `path`, or in a folder the one called model.safetensors."""
    return os.path.join(path, "model.safetensors") if os.path.isdir(path) else path


def find_file_layers(path: str, told: Told) -> list[FileLayer]:
    """The layers of a file. InputError, with the names that are there, if none of them is known."""
    file = open_weights(path_of_weights(path))
    config = read_config(told.config or os.path.join(os.path.dirname(file.path), "config.json"))
    families = FAMILIES if told.family is None else (told.family,)
    layers = [
        _read_layer(file, family, name, parts, _config_for(family, name, config, told))
        for family, name, parts in _best_matches(file, families)
    ]
    if not layers:
        raise InputError(
            f"{file.path} has no attention that is known by its names: {_summarise(file)}",
            hint="--map FILE tells which tensors are query, key, value and output.",
        )
    return layers


def _best_matches(file: WeightFile, families: Sequence[Family]) -> list[tuple[Family, str, dict[str, str]]]:
    """For each layer the family of which it lacks least: some begin with the same names."""
    best: dict[str, tuple[int, Family, str, dict[str, str]]] = {}
    for family in families:
        for name, parts in find_tensors(family, file.tensors).items():
            lacks = len(family.templates.keys() - parts.keys() - {"added_key", "added_value"})
            first = parts.get("packed") or parts["query"]
            if first not in best or lacks < best[first][0]:
                best[first] = (lacks, family, name, parts)
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
        rope_theta=numbers.get("rope_theta", config.rope_theta),
        rotary_features=pick("rotary_features"),
    )


def _read_layer(
    file: WeightFile, family: Family, name: str, parts: Mapping[str, str], config: ModelConfig
) -> FileLayer:
    layer = FileLayer(name or "the layer", family, config)
    if unknown := _find_unknown(file, family, name, config):
        return replace(layer, unknown=unknown)
    try:
        precision = _precision(file, parts)
        weights = _read_weights(file, family, parts)
        settings = _settings(weights, family, name, config)
        size = check_weights(weights, settings)
        if pairing := family.pairing_in(config.model):
            config.rotary(1, size, pairing)  # which is to be refused here, if it cannot be
    except InputError as error:
        return replace(layer, broken=f"{error.message}{f' ({error.hint})' if error.hint else ''}")
    return replace(layer, weights=weights, settings=settings, precision=precision)


def _find_unknown(file: WeightFile, family: Family, name: str, config: ModelConfig) -> str:
    """What is not re-derived of a layer, in a sentence; "" if all is. A table speaks for itself."""
    if not family.models:
        return ""
    prefix = f"{name}." if name else ""
    found = [each for each in (template.replace("*", prefix) for template in family.unknown) if each in file.tensors]
    found += config.unknown
    if config.model and config.model not in family.models:
        return f"it is of a model of type {config.model}, which is not known to attend as {family.name} does"
    return f"it has {', '.join(found)}, which is not re-derived" if found else ""


def _number_of(name: str) -> int:
    """The number of a layer in its model, which is the last in its name: "h.3"; 0 if there is none."""
    return next((int(part) for part in reversed(name.split(".")) if re.fullmatch("[0-9]{1,9}", part)), 0)


def _with_window(mask: Array | None, length: int, keys: int, window: int) -> Array:
    """The mask, with those keys forbidden, too, that are `window` or more before the query: (..., L, S)."""
    too_early = np.arange(keys)[None, :] <= np.arange(length)[:, None] - window
    if mask is None or mask.dtype.kind == "b":
        return too_early if mask is None else mask | too_early
    return np.where(too_early, -np.inf, mask)


def _precision(file: WeightFile, parts: Mapping[str, str]) -> Precision:
    kinds = {file.tensors[name].precision or file.tensors[name].dtype for name in parts.values()}
    if len(kinds) != 1 or not kinds <= PRECISIONS.keys():
        raise InputError(f"its tensors are {', '.join(sorted(kinds))}: one type of {', '.join(PRECISIONS)} is needed")
    return PRECISIONS[kinds.pop()]


def _read_weights(file: WeightFile, family: Family, parts: Mapping[str, str]) -> Weights:
    arrays = {part: file.read(name) for part, name in parts.items()}
    for part in ("packed", *_REQUIRED, "output"):
        if part in arrays:
            if arrays[part].ndim != 2:
                raise InputError(f"{parts[part]} has shape {arrays[part].shape}: weights have two axes")
            if family.is_in_out:
                arrays[part] = arrays[part].T
    if "packed" in arrays:
        arrays |= _unpack(arrays.pop("packed"), parts["packed"])
    if "packed_bias" in arrays:
        bias = arrays.pop("packed_bias")
        if bias.ndim != 1 or bias.shape[0] % 3:
            raise InputError(
                f"{parts['packed_bias']} has shape {bias.shape}: query, key and value must be equally many"
            )
        arrays |= {f"{part}_bias": piece for part, piece in zip(_REQUIRED, np.split(bias, 3), strict=True)}
    missing = [family.templates.get(part, part) for part in _REQUIRED if part not in arrays]
    if "output" in family.templates and "output" not in arrays:
        missing.append(family.templates["output"])
    if missing:
        raise InputError(f"the file lacks {', '.join(missing)}")
    for part in ("added_key", "added_value"):
        if part in arrays:
            arrays[part] = arrays[part].reshape(-1)
    return Weights(**arrays)


def _unpack(packed: Array, name: str) -> dict[str, Array]:
    if packed.shape[0] % 3:
        raise InputError(f"{name} gives {packed.shape[0]} features: query, key and value must be equally many")
    return dict(zip(_REQUIRED, np.split(packed, 3), strict=True))


def _settings(weights: Weights, family: Family, name: str, config: ModelConfig) -> Settings:
    heads = config.heads
    if heads is None:
        raise InputError(
            "how many heads it has does not follow from its weights",
            hint="--heads N says it, or a config.json beside the file",
        )
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
    return Settings(heads, key_heads=groups, scale=scale, is_causal=is_causal)


def _summarise(file: WeightFile) -> str:
    """Names with numbers taken out, so that layers look the same."""
    kinds: Sequence[str] = list(dict.fromkeys(re.sub(r"\d+", "N", name)[:60] for name in file.tensors))
    more = f" and {len(kinds) - 8} kinds more" if len(kinds) > 8 else ""
    return f"{len(file.tensors)} tensors, {', '.join(kinds[:8])}{more}" if kinds else "it is empty"
