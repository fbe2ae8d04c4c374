"""What describes an attention layer and a call of it: weights, settings, masks, the turning of rotary positions.

Every array is NumPy's. Weights are as torch's linear layers have them, (out, in): a projection is x @ weight.T + bias.
What does not fit together is refused with one sentence that names both shapes by their axes.
"""

from __future__ import annotations

import math

import numpy as np

from jubako.errors import InputError
from jubako.records import as_dict, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypeAlias

    Array: TypeAlias = Any  # numpy.ndarray
    Pairing: TypeAlias = Literal["halves", "interleaved"]

__all__ = ["NO_MASKS", "Masks", "Past", "Rotary", "Settings", "Weights", "rotary_of"]


@record
class Weights:
    """The parameters of a layer. H heads of size D for queries, as many or fewer (grouped) for keys and values."""

    query: Array  # (H*D, E)
    key: Array  # (Hk*D, key E)
    value: Array  # (Hk*D, value E)
    output: Array | None = None  # (E, H*D); None: the layer ends with the heads side by side
    query_bias: Array | None = None  # (H*D,)
    key_bias: Array | None = None  # (Hk*D,)
    value_bias: Array | None = None  # (Hk*D,)
    output_bias: Array | None = None  # (E,)
    added_key: Array | None = None  # (Hk*D,), torch's bias_k: one more key after the last
    added_value: Array | None = None  # (Hk*D,), torch's bias_v

    def named(self) -> dict[str, Array]:
        """Those there are, by name."""
        return {name: value for name, value in as_dict(self).items() if value is not None}


@record
class Rotary:
    """Positions as rotations of pairs of features: (x1, x2) becomes (x1 cos - x2 sin, x2 cos + x1 sin).

    The pairs are feature i with i + R/2 ("halves", as LLaMA and GPT-NeoX have it), or 2i with 2i + 1 ("interleaved", as
    the paper and GPT-J do). Only the first R features of each head are turned.
    """

    cosines: Array  # (B or 1, L, R/2)
    sines: Array  # (B or 1, L, R/2)
    pairing: Pairing = "halves"


@record
class Past:
    """Keys and values of earlier calls, from a cache: cut into heads and turned. They are beside those of a call.

    `key_errors` and `value_errors` say how far each may be expected to be off; None: these are the numbers themselves.
    """

    key_heads: Array  # (B, Hk, P, D)
    value_heads: Array  # (B, Hk, P, D)
    key_errors: Array | None = None  # (B, Hk, P, D)
    value_errors: Array | None = None  # (B, Hk, P, D)

    @property
    def length(self) -> int:
        """P, how many they are."""
        count: int = self.key_heads.shape[-2]
        return count


@record
class Settings:
    """How a layer attends, apart from its weights. The defaults are those of torch.nn.MultiheadAttention."""

    heads: int
    key_heads: int = 0  # grouped-query: so many heads of keys and values, each for heads/key_heads queries; 0: heads
    scale: float | None = None  # what the products of query and key are multiplied by; None: 1/sqrt(D)
    is_causal: bool = False  # row i sees the keys 0 to i, and all of `past`
    adds_zero: bool = False  # torch's add_zero_attn: one more key and value, all zeros
    batch_first: bool = True  # how inputs with three axes are laid out: (B, L, E), or (L, B, E)
    rotary: Rotary | None = None
    past: Past | None = None
    spare: Past | None = None  # what a cache of fixed size holds behind the keys of a call; no query sees it

    @property
    def groups(self) -> int:
        """How many heads keys and values have."""
        return self.key_heads or self.heads

    @property
    def past_length(self) -> int:
        """P, how many keys of earlier calls come before those of a call."""
        return 0 if self.past is None else self.past.length

    @property
    def kept_length(self) -> int:
        """How many keys there are besides those of a call: before these, and behind them."""
        return self.past_length + (0 if self.spare is None else self.spare.length)


@record
class Masks:
    """Which keys a query must not see, as torch's layer takes it: True forbids, numbers are added to the scores.

    `attention` is (L, S), (B*H, L, S) with the heads of a batch side by side, or (B or 1, H or 1, L, S). `padding` is
    (B, S), or (S,) where the inputs have no batch.
    """

    attention: Array | None = None
    padding: Array | None = None


NO_MASKS = Masks()


def rotary_of(positions: Array, features: int, base: float = 10000.0, pairing: Pairing = "halves") -> Rotary:
    """The rotation of `features` features of a head (even) at these positions, (L,) or (B, L), as the paper has it."""
    if features % 2:
        raise InputError(f"rotary positions turn pairs of features, and {features} is odd")
    steps = base ** (-np.arange(0, features, 2, dtype=np.float64) / features)  # (R/2,)
    angles = np.atleast_2d(np.asarray(positions, dtype=np.float64))[..., None] * steps  # (B or 1, L, R/2)
    return Rotary(np.cos(angles), np.sin(angles), pairing)


def check_weights(weights: Weights, settings: Settings) -> int:
    """The head size D; InputError where weights and settings cannot be of one layer."""
    _require_kinds(weights, settings)
    rows: dict[str, int] = {
        name: value.shape[0] for name, value in weights.named().items() if name in ("query", "key", "value")
    }
    heads, groups = settings.heads, settings.groups
    if heads < 1 or groups < 1 or heads % groups:
        raise InputError(f"{heads} heads of queries cannot share {groups} heads of keys: one must divide the other")
    if rows["query"] % heads:
        raise InputError(f"the query's weights give {rows['query']} features, which {heads} heads do not divide")
    size = rows["query"] // heads
    for name in ("key", "value"):
        if rows[name] != groups * size:
            raise InputError(
                f"the {name}'s weights give {rows[name]} features, and Hk={groups} heads of D={size} are "
                f"{groups * size}"
            )
    expected: dict[str, tuple[int, ...]] = {
        "query_bias": (heads * size,),
        "key_bias": (groups * size,),
        "value_bias": (groups * size,),
        "added_key": (groups * size,),
        "added_value": (groups * size,),
    }
    if weights.output is not None:
        expected |= {"output": (weights.output.shape[0], heads * size), "output_bias": (weights.output.shape[0],)}
    for name, value in weights.named().items():
        if name in expected and value.shape != expected[name]:
            said = name.replace("_", " ")
            raise InputError(f"the {said} has shape {value.shape}, and {expected[name]} fits the other weights")
    return size


def _require_kinds(weights: Weights, settings: Settings) -> None:
    """InputError for what is no array of real numbers with the right axes, and for parts that are there alone."""
    for name, value in weights.named().items():
        said = name.replace("_", " ")
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
            what = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise InputError(f"the {said} weights are of type {what}, and must be a NumPy array of real numbers")
        if name in ("query", "key", "value", "output") and (value.ndim != 2 or not value.size):
            raise InputError(
                f"the {said} weights have shape {value.shape}, and must have two axes, (out, in), none of 0"
            )
    if weights.output is None and weights.output_bias is not None:
        raise InputError("there is an output bias, and no output weights that it would belong to")
    if (weights.added_key is None) != (weights.added_value is None):
        there, lacking = ("key", "value") if weights.added_value is None else ("value", "key")
        raise InputError(f"there is an added {there} and no added {lacking}: both are appended, or none")
    for name in ("heads", "key_heads"):
        count = getattr(settings, name)
        if isinstance(count, bool) or not isinstance(count, int):
            raise InputError(f"{name} is {count!r}, and must be a whole number")
    if settings.scale is not None and not math.isfinite(settings.scale):
        raise InputError(f"the scale is {settings.scale}, and must be a finite number")


def find_bad_numbers(weights: Weights) -> str:
    """A sentence for parameters that hold NaN or inf; "" if all is well."""
    found = []
    for name, array in weights.named().items():
        if bad := int(np.count_nonzero(~np.isfinite(array))):
            found.append(f"the weights hold NaN or inf: {name.replace('_', ' ')}, {bad} of {array.size} numbers")
    return "; ".join(found)


def scale_of(settings: Settings, size: int) -> float:
    """What products of query and key are multiplied by."""
    return 1.0 / math.sqrt(size) if settings.scale is None else settings.scale
