"""Which tensors of a file are an attention layer, by their names; and a table for names that are not known.

In a template `*` stands for what differs from layer to layer, the same in all templates of a family:

    [attention]
    query = "blocks.*.to_q.weight"        # key, value and output likewise; or packed = ... for all three in one
    heads = 12
    layout = "in, out"                    # as GPT-2 stores weights; "out, in" is meant otherwise

The bias of a tensor called X.weight is X.bias, if that is there.
"""

from __future__ import annotations

import json
import re

from jubako.attention.files.config import MOST_FEATURES, MOST_HEADS
from jubako.attention.files.models import CAUSAL, INTERLEAVED
from jubako.attention.files.positions import THETAS
from jubako.errors import InputError
from jubako.records import field, record
from jubako.verify.content import open_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from jubako.attention.description import Packing, Pairing

__all__ = ["OPTIONAL", "PARTS", "Family", "find_tensors", "read_table"]

PARTS = ("query", "key", "value", "packed", "output", "added_key", "added_value")
OPTIONAL = ("added_key", "added_value", "query_norm", "key_norm")  # what layers of a family may lack
_NUMBERS = {"rope_theta": THETAS, "scale": (1e-9, 1e9)}
_WHOLE = {
    "heads": MOST_HEADS,
    "key_heads": MOST_HEADS,
    "head_size": MOST_FEATURES,
    "rotary_features": MOST_FEATURES,
}


@record
class Family:
    """How the layers of a kind of model are called, and how they attend."""

    name: str
    templates: Mapping[str, str]  # of each part: "*.attention.self.query.weight"
    biases: Mapping[str, str] = field(default_factory=dict)  # where they are not called X.bias
    is_in_out: bool = False  # weights are stored (in, out)
    is_causal: bool = False
    rotary: str = ""  # "halves" or "interleaved"
    suffix: str = ""  # of the names of its layers, where another family has the same
    models: tuple[str, ...] = ()  # as config.json calls those of which it is known; (): any
    packing: Packing = "rows"  # of query, key and value in one
    stem: str = ""  # what the names of all that belongs to the attention of a layer have behind the layer's own
    harmless: tuple[str, ...] = ()  # of these, what is no part of it
    refused: str = ""  # what such layers do that is not re-derived
    numbers: Mapping[str, float] = field(default_factory=dict)  # what the table says of heads and such

    def is_causal_in(self, layer: str, model: str, *, is_decoder: bool) -> bool:
        """Whether a query of this layer sees no later keys, by its name, and by what config.json says of the model."""
        if self.is_causal or not self.models:
            return self.is_causal
        if self.name == "BERT":
            return is_decoder and not layer.endswith("cross")
        return self.name == "BART" and (model in CAUSAL or "decoder" in layer.split("."))

    def pairing_in(self, model: str) -> Pairing | None:
        """Which features are turned together; None if there are no rotary positions."""
        if not self.rotary:
            return None
        return "interleaved" if self.rotary == "interleaved" or model in INTERLEAVED else "halves"


def find_tensors(family: Family, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The layers of a family among the names of tensors: for each, the names of its parts and their biases.

    A layer is found by its query, or by what has all three packed; what else it lacks is for the reader to say.
    """
    there = set(names)
    first = "packed" if "packed" in family.templates else "query"
    found = {}
    for name in there:
        matched = _pattern(family.templates[first]).fullmatch(name)
        if matched is None:
            continue
        layer = matched[1]
        parts = {part: template.replace("*", layer) for part, template in family.templates.items()}
        parts |= {
            f"{part}_bias": name.removesuffix("weight") + "bias"
            for part, name in parts.items()
            if name.endswith(".weight")
        }
        parts |= {f"{part}_bias": template.replace("*", layer) for part, template in family.biases.items()}
        found[(layer.rstrip(".") + family.suffix).lstrip(".")] = {
            part: name for part, name in parts.items() if name in there
        }
    return dict(sorted(found.items(), key=lambda item: _natural(item[0])))


def read_table(path: str) -> Family:
    """The family that a table describes, in TOML or JSON. InputError for what is not understood."""
    try:
        with open_regular(path) as file:
            text = file.read(1 << 20).decode("utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8") from error
    try:
        table = json.loads(text) if path.endswith(".json") else _read_toml(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    attention = table.get("attention", table) if isinstance(table, dict) else None
    if not isinstance(attention, dict):
        raise InputError(f"{path} has no table called attention")
    return _family(path, attention)


def _family(path: str, table: Mapping[str, Any]) -> Family:
    biases = {f"{part}_bias" for part in PARTS[:5]}
    texts = {*PARTS, *biases, "layout", "rotary", "name"}
    known = {*texts, *_NUMBERS, *_WHOLE, "causal"}
    if unknown := sorted(table.keys() - known):
        raise InputError(
            f"{path}: {', '.join(unknown)} is not understood", hint=f"there are {', '.join(sorted(known))}"
        )
    if wrong := list(_find_wrong(table, texts)):
        raise InputError(f"{path}: {'; '.join(wrong)}")
    templates = {part: table[part] for part in PARTS if part in table}
    if "packed" not in templates and not {"query", "key", "value"} <= templates.keys():
        raise InputError(f"{path} has to name query, key and value, or packed for all three in one")
    stars = [name for name in (*PARTS, *sorted(biases)) if name in table and table[name].count("*") > 1]
    if stars:
        raise InputError(
            f"{path}: {', '.join(stars)} has more than one *, which stands for what differs between layers"
        )
    if table.get("rotary", "") not in ("", "halves", "interleaved"):
        raise InputError(f"{path}: rotary is halves or interleaved, not {table['rotary']!r}")
    if table.get("rotary_features", 2) % 2:
        raise InputError(f"{path}: rotary_features are turned in pairs, and {table['rotary_features']} is odd")
    layout = str(table.get("layout", "out, in")).replace(" ", "")
    if layout not in ("out,in", "in,out"):
        raise InputError(f"{path}: layout is 'out, in' or 'in, out', not {table['layout']!r}")
    return Family(
        str(table.get("name", "table")),
        templates,
        {part.removesuffix("_bias"): table[part] for part in biases if part in table},
        is_in_out=layout == "in,out",
        is_causal=bool(table.get("causal", False)),
        rotary=str(table.get("rotary", "")),
        numbers={name: table[name] for name in (*_NUMBERS, *_WHOLE) if name in table},
    )


def _find_wrong(table: Mapping[str, Any], texts: set[str]) -> Iterator[str]:
    """Values that cannot be meant, with what they have to be."""
    for name, value in table.items():
        must_be = ""
        if name in texts and not isinstance(value, str):
            must_be = "a text"
        elif name in _NUMBERS and not _is_within(value, _NUMBERS[name]):
            must_be = "a number from {:g} to {:g}".format(*_NUMBERS[name])
        elif name in _WHOLE and not _is_within(value, (1, _WHOLE[name]), int):
            must_be = f"a whole number from 1 to {_WHOLE[name]}"
        elif name == "causal" and type(value) is not bool:
            must_be = "true or false"
        if must_be:
            yield f"{name} is {repr(value)[:40]}, and must be {must_be}"


def _is_within(value: Any, range_: tuple[float, float], *kinds: type) -> bool:
    """True for a number of these kinds, any if there are none, that is neither NaN nor beyond its range."""
    return type(value) in (kinds or (int, float)) and range_[0] <= value <= range_[1]


def _read_toml(text: str) -> dict[str, Any]:
    import tomllib  # 4 ms, for those who have a table

    return tomllib.loads(text)


def _pattern(template: str) -> re.Pattern[str]:
    before, star, after = template.partition("*")
    return re.compile(f"{re.escape(before)}({'.*' if star else ''}){re.escape(after)}")


def _natural(name: str) -> list[tuple[int, str]]:
    """Layer 2 comes before layer 10."""
    parts = re.split(r"([0-9]{1,18})", name)
    return [(int(part), "") if re.fullmatch("[0-9]+", part) else (-1, part) for part in parts]
