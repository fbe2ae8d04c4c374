"""The attention layers of a file of weights, as the reference takes them; what is wrong with one is said of it."""

from __future__ import annotations

import os
import re

import numpy as np

from jubako.attention.checking.judge import Call
from jubako.attention.description import NO_MASKS, check_weights
from jubako.attention.files.config import ModelConfig, read_config
from jubako.attention.files.families import OPTIONAL, Family, find_tensors
from jubako.attention.files.known import FAMILIES
from jubako.attention.files.shards import open_any_weights
from jubako.attention.files.weights import (
    WrongHeadsError,
    number_of,
    precision_of_parts,
    read_weights,
    require_memory_for,
    settings_of,
)
from jubako.errors import InputError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jubako.attention.checking.precision import Precision
    from jubako.attention.description import Array, Masks, Settings, Weights
    from jubako.attention.files.shards import AnyWeights

__all__ = ["FileLayer", "Told", "find_file_layers"]

_NAMED = 6  # of what is not known, in a sentence
_LONGEST = 100  # characters of a name


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
    weights, and else none before they are read.
    """

    name: str
    family: Family
    config: ModelConfig
    file: AnyWeights
    parts: Mapping[str, str]  # the names of its tensors
    weights: Weights | None = None
    settings: Settings | None = None
    precision: Precision | None = None
    broken: str = ""
    unknown: str = ""
    are_heads_told: bool = False

    def read(self, memory_bytes: int | None = None) -> FileLayer:
        """The layer with its weights and settings, or with what is wrong.

        HostError: there is no memory for them. InputError: the weights cannot be of the heads that the caller told, or
        nothing says how many there are.
        """
        if self.broken or self.unknown or self.weights is not None:
            return self
        require_memory_for(self.name, self.file, self.parts, memory_bytes)
        number = number_of(self.name)
        try:
            weights = read_weights(self.file, self.family, self.parts, self.config)
            settings = settings_of(weights, self.family, self.name, self.config)
            size = check_weights(weights, settings)
            if pairing := self.family.pairing_in(self.config.model):
                self.config.rotary(number, 1, size, pairing)  # which is to be refused here, if it cannot be
        except InputError as error:
            if isinstance(error, WrongHeadsError) and (self.are_heads_told or self.config.heads is None):
                raise WrongHeadsError(f"{self.name}: {error.message}", hint=error.hint) from error
            return replace(self, broken=f"{error.message}{f' ({error.hint})' if error.hint else ''}")
        return replace(self, weights=weights, settings=settings)

    def call(
        self, inputs: tuple[Array, Array, Array], masks: Masks = NO_MASKS, memory_bytes: int | None = None
    ) -> Call:
        """A call of the layer, batch first, with positions from 0 on. InputError if that cannot be."""
        assert self.weights is not None and self.settings is not None and self.precision is not None
        settings = self.settings
        length, keys = inputs[0].shape[-2], inputs[1].shape[-2]
        pairing, layer = self.family.pairing_in(self.config.model), number_of(self.name)
        if pairing is not None:
            size = self.weights.query.shape[0] // settings.heads
            settings = replace(settings, rotary=self.config.rotary(layer, length, size, pairing))
        window = self.config.window_of(layer)
        if window is not None and keys > window:
            masks = replace(masks, attention=_with_window(masks.attention, length, keys, window))
        query, key, value = inputs
        return Call(self.weights, settings, query, key, value, self.precision, masks, memory_bytes)


def find_file_layers(path: str, told: Told) -> list[FileLayer]:
    """The layers of a file, not read yet. InputError, with the names that are there, if none of them is known."""
    file = open_any_weights(path)
    if told.config and not os.path.lexists(told.config):
        raise InputError(f"{told.config}: No such file or directory")
    config = read_config(told.config or os.path.join(os.path.dirname(file.path), "config.json"))
    families = FAMILIES if told.family is None else (told.family,)
    are_told = told.heads is not None or told.key_heads is not None
    layers = [
        replace(
            _find_layer(file, family, name, parts, _config_for(family, name, config, told)), are_heads_told=are_told
        )
        for family, name, parts in _best_matches(file, families, config)
    ]
    if not layers and told.family is not None:
        wanted = ", ".join(f"{part} = {told.family.templates[part]!r}" for part in told.family.templates)
        raise InputError(f"{file.path} has nothing that the table names, {wanted}: {_summarise(file)}")
    if not layers:
        raise InputError(
            f"{file.path} has no attention that is known by its names: {_summarise(file)}",
            hint="--map FILE tells which tensors are query, key, value and output.",
        )
    return layers


def _best_matches(
    file: AnyWeights, families: Sequence[Family], config: ModelConfig
) -> list[tuple[Family, str, dict[str, str]]]:
    """For each layer the family that knows the model, or else of which it lacks least: some begin with one name."""
    best: dict[str, tuple[tuple[bool, bool, int], Family, str, dict[str, str]]] = {}
    for family in families:
        for name, parts in find_tensors(family, file.tensors).items():
            lacks = len(family.templates.keys() - parts.keys() - {*OPTIONAL})
            badness = (config.of_layer(name).model not in family.models, bool(family.refused), lacks)
            first = parts.get("packed") or parts["query"]
            if first not in best or badness < best[first][0]:
                best[first] = (badness, family, name, parts)
    return [match[1:] for match in best.values()]


def _config_for(family: Family, name: str, config: ModelConfig, told: Told) -> ModelConfig:
    """What holds: what was said goes before the table, and that before the file of the model."""
    numbers, config = family.numbers, config.of_layer(name)
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


def _find_layer(
    file: AnyWeights, family: Family, name: str, parts: Mapping[str, str], config: ModelConfig
) -> FileLayer:
    """A layer of which nothing has been read yet but what the header says."""
    layer = FileLayer(name or "the layer", family, config, file, parts)
    if unknown := _find_unknown(file, family, parts, config):
        return replace(layer, unknown=unknown)
    try:
        return replace(layer, precision=precision_of_parts(file, parts))
    except InputError as error:
        return replace(layer, broken=error.message)


def _find_unknown(file: AnyWeights, family: Family, parts: Mapping[str, str], config: ModelConfig) -> str:
    """What is not re-derived of a layer, in a sentence; "" if all is. A table speaks for itself."""
    if family.refused and config.model in ("", *family.models):
        return f"it is a layer of {family.name}, which {family.refused}; that is not re-derived"
    if not family.models:
        return ""
    if config.model and config.model not in family.models:
        return f"it is of a model of type {config.model}, which is not known to attend as {family.name} does"
    found = [*_find_more(file, family, parts, config), *config.unknown]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"it has {', '.join(found[:_NAMED])}{more}, which is not re-derived" if found else ""


def _find_more(file: AnyWeights, family: Family, parts: Mapping[str, str], config: ModelConfig) -> Iterator[str]:
    """Tensors that belong to a layer's attention and are none of the parts that are known of it."""
    first = "packed" if "packed" in parts else "query"
    stem = f"{parts[first].removesuffix(family.templates[first].removeprefix('*'))}{family.stem}"
    known = {*parts.values(), *(f"{stem}{each}" for each in family.harmless)}
    if config.norm is None:
        known -= {tensor for part, tensor in parts.items() if "norm" in part}
    yield from (tensor for tensor in file.tensors if tensor.startswith(stem) and tensor not in known)


def _with_window(mask: Array | None, length: int, keys: int, window: int) -> Array:
    """The mask, with those keys forbidden, too, that are `window` or more before the query: (..., L, S)."""
    too_early = np.arange(keys)[None, :] <= np.arange(length)[:, None] - window
    if mask is None or mask.dtype.kind == "b":
        return too_early if mask is None else mask | too_early
    return np.where(too_early, -np.inf, mask)


def _summarise(file: AnyWeights) -> str:
    """Names with numbers taken out, so that layers look the same."""
    kinds: Sequence[str] = list(dict.fromkeys(_shorten(re.sub(r"\d+", "N", name)) for name in file.tensors))
    more = f" and {len(kinds) - 8} kinds more" if len(kinds) > 8 else ""
    return f"{len(file.tensors)} tensors, {', '.join(kinds[:8])}{more}" if kinds else "it is empty"


def _shorten(name: str) -> str:
    """A name that a hostile file cannot fill a terminal with; where some of it is left out, that shows."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..."
