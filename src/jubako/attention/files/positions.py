"""How fast positions turn the pairs of a head's features, by what config.json says: the types that models have.

    default     pair i of R/2 turns by theta^(-2i/R) for each position
    linear      all pairs slower by a factor
    llama3      pairs that turn seldom in the first context slower, those that turn often as before, between them both
    yarn        likewise, by the number of a pair; and heads get longer by an attention factor
    dynamic     theta grows with a sequence that is longer than the longest the model was made for
    longrope    each pair slower by a factor of its own, of two sets: for short sequences, and for long ones

Sources: Su et al., RoFormer (2021); Peng et al., YaRN (2023); Ding et al., LongRoPE (2024); and the transformers
library, whose values these are.
"""

from __future__ import annotations

import math

import numpy as np

from jubako.attention.description import Rotary
from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.attention.description import Array, Pairing
    from jubako.attention.files.reader import Reader

__all__ = ["KINDS", "THETAS", "Rope", "kind_of", "read_rope"]

THETAS = (1.0, 1e15)  # the base of the speeds of rotation
KINDS = ("default", "linear", "llama3", "yarn", "dynamic", "longrope")
_FACTORS = (1e-6, 1e6)
_LENGTHS = (1.0, 1e12)


@record
class Rope:
    """How positions turn heads. Fields that a type does not have are as they were."""

    kind: str = "default"
    theta: float = 10000.0
    share: float = 1.0  # of the features of a head: so many are turned
    features: int | None = None  # the same as a number
    factor: float = 1.0
    low: float = 1.0  # turns: "llama3", and "yarn", where it is the number of the slowest
    high: float = 4.0
    before: float = 8192.0  # positions that the model was first trained with
    longest: float = 2048.0  # positions that the model was made for
    stretch: float = 1.0  # of heads, by their being turned
    is_truncated: bool = True  # whole numbers of pairs, in "yarn"
    short: tuple[float, ...] = ()
    long: tuple[float, ...] = ()

    def rotary(self, length: int, size: int, pairing: Pairing) -> Rotary:
        """The rotation of positions 0 to `length`, for heads of `size` features."""
        features = self.features or int(size * self.share) // 2 * 2
        if not 0 < features <= size:
            raise InputError(f"{features} features of a head are turned by position, and its head has D={size}")
        angles = np.arange(length)[None, :, None] * self.speeds(length, features)  # (1, L, R/2)
        return Rotary(self.stretch * np.cos(angles), self.stretch * np.sin(angles), pairing)

    def speeds(self, length: int, features: int) -> Array:
        """By how much each pair turns for a position, in a sequence so long: (R/2,)."""
        theta = self.theta
        if self.kind == "dynamic" and features > 2:
            longer = self.factor * max(length, self.longest) / self.longest - (self.factor - 1)
            theta *= longer ** (features / (features - 2))
        speeds = theta ** (-np.arange(0, features, 2, dtype=np.float64) / features)
        if self.kind == "linear":
            return speeds / self.factor
        if self.kind == "longrope":
            factors = np.array(self.long if length > self.before else self.short)
            if factors.shape != speeds.shape:
                raise InputError(f"there are {factors.size} factors of speeds, and {speeds.size} pairs that are turned")
            return speeds / factors
        if self.kind == "llama3":
            turns = self.before * speeds / (2 * math.pi)  # within the context that the model was first trained with
            share = np.clip((turns - self.low) / (self.high - self.low), 0.0, 1.0)  # 0: slowed down in full
        elif self.kind == "yarn":
            first, last = (self._pair_of(turns, features) for turns in (self.high, self.low))
            if self.is_truncated:
                first, last = math.floor(first), math.ceil(last)
            first, last = max(first, 0), min(last, features - 1)
            last = last if last != first else last + 0.001
            share = 1 - np.clip((np.arange(features // 2) - first) / (last - first), 0.0, 1.0)
        else:
            return speeds
        return speeds * (share + (1 - share) / self.factor)

    def _pair_of(self, turns: float, features: int) -> float:
        """The number of the pair that turns so often within the first context, between two pairs too."""
        return features * math.log(self.before / (turns * 2 * math.pi)) / (2 * math.log(self.theta))


def kind_of(rope: Reader) -> str:
    """The type that a table of positions names."""
    return rope.text("rope_type") or rope.text("type") or "default"


def read_rope(rope: Reader, config: Reader, theta: float) -> Rope:
    """What a table of positions says, and the whole configuration where it does not; `theta` where neither does.

    InputError for values that cannot be meant, or are missing. Of types that are not known only theta is read.
    """
    kind = kind_of(rope)
    plain = Rope(
        theta=rope.number("rope_theta", *THETAS) or theta,
        share=rope.number("partial_rotary_factor", 1e-6, 1.0) or 1.0,
        longest=config.number("max_position_embeddings", *_LENGTHS) or Rope.longest,
    )
    if kind not in KINDS or kind == "default":
        return plain
    found = _read_numbers(rope, config, kind)
    if kind == "llama3" and not found["low"] < found["high"]:
        raise InputError(
            f"{rope.path}: low_freq_factor {found['low']:g} must be less than {found['high']:g}, the high one"
        )
    others: dict[str, object] = {}
    if kind == "yarn":
        others = {
            "is_truncated": rope.flag("truncate") is not False,
            "stretch": _stretch_of_yarn(rope, found["factor"]),
        }
    if kind == "yarn" and plain.theta == 1:
        raise InputError(f"{rope.path}: rope_theta is 1, with which positions of type 'yarn' cannot be told apart")
    if kind == "longrope":
        others = {name: _read_factors(rope, f"{name}_factor") for name in ("short", "long")}
        others["stretch"] = rope.number("attention_factor", *_FACTORS) or _stretch_of_longrope(found, rope)
    return Rope(**{**_fields(plain), "kind": kind, **found, **others})  # type: ignore[arg-type]


def _fields(rope: Rope) -> dict[str, object]:
    return {"theta": rope.theta, "share": rope.share, "longest": rope.longest}


def _read_numbers(rope: Reader, config: Reader, kind: str) -> dict[str, float]:
    """The numbers that a type needs, by the names of fields."""
    names = {"factor": ("factor", *_FACTORS)}
    if kind in ("llama3", "yarn", "longrope"):
        names["before"] = ("original_max_position_embeddings", *_LENGTHS)
    if kind == "llama3":
        names |= {"low": ("low_freq_factor", *_FACTORS), "high": ("high_freq_factor", *_FACTORS)}
    found = {}
    for field, (name, least, most) in names.items():
        number = rope.number(name, least, most)
        if field == "before":  # the library, too, asks in this order
            longest = config.number("max_position_embeddings", *_LENGTHS)
            number = config.number(name, least, most) or number or longest
        found[field] = number
    if kind == "yarn":
        found["high"] = rope.number("beta_fast", *_FACTORS) or 32.0
        found["low"] = rope.number("beta_slow", *_FACTORS) or 1.0
    if kind in ("yarn", "longrope") and found["factor"] is None and found["before"]:
        longest = config.number("max_position_embeddings", *_LENGTHS)
        found["factor"] = longest / found["before"] if longest else None
    missing = [names[field][0] for field, number in found.items() if number is None]
    if missing:
        raise InputError(f"{rope.path}: its positions are of type {kind!r}, and {', '.join(missing)} is missing")
    return {field: number for field, number in found.items() if number is not None}


def _stretch_of_yarn(rope: Reader, factor: float) -> float:
    given = rope.number("attention_factor", *_FACTORS)
    if given is not None:
        return given
    over, under = (rope.number(name, 0.0, 1e6) for name in ("mscale", "mscale_all_dim"))

    def by(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

    return by(over) / by(under) if over and under else by(1.0)


def _stretch_of_longrope(found: dict[str, float], rope: Reader) -> float:
    if found["factor"] <= 1:
        return 1.0
    if found["before"] <= 1:
        raise InputError(f"{rope.path}: original_max_position_embeddings is {found['before']:g}, and must be above 1")
    return math.sqrt(1 + math.log(found["factor"]) / math.log(found["before"]))


def _read_factors(rope: Reader, name: str) -> tuple[float, ...]:
    """A list of numbers, one for each pair."""
    factors = rope.table.get(name)
    if not isinstance(factors, list) or not factors:
        raise InputError(f"{rope.path}: its positions are of type 'longrope', and {name} is missing")
    if not all(type(each) in (int, float) and _FACTORS[0] <= each <= _FACTORS[1] for each in factors):
        raise InputError(f"{rope.path}: {name} holds what is no number from {_FACTORS[0]:g} to {_FACTORS[1]:g}")
    return tuple(map(float, factors))
