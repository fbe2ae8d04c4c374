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
    Packing: TypeAlias = Literal["rows", "groups"]

__all__ = ["NO_MASKS", "Masks", "Norm", "Past", "Rotary", "Settings", "Weights", "rotary_of", "unpack"]


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
    query_norm: Array | None = None  # (D,) or (H, D), of each head by itself; or (H*D,), of all heads as one row
    key_norm: Array | None = None  # (D,), (Hk, D) or (Hk*D,)
    query_norm_bias: Array | None = None  # as query_norm
    key_norm_bias: Array | None = None

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
class Norm:
    """How queries and keys are normalised, in layers whose weights have norms, before positions turn them.

        x / sqrt(mean(x^2) + epsilon) * (weight + offset) + bias

    The mean is over the D features of a head, or over those of all heads where there is a weight for each of these.
    With `takes_mean` the mean of x is taken off x first, as layer norms do; without, it is an RMSNorm.
    """

    epsilon: float = 1e-6
    offset: float = 0.0  # Gemma stores its weights less 1
    takes_mean: bool = False


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
    norm: Norm = Norm()  # of those weights that have norms
    softcap: float | None = None  # scores s become softcap * tanh(s / softcap), before any mask

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


def unpack(packed: Array, heads: int, groups: int, packing: Packing) -> list[Array]:
    """Query, key and value out of one array whose first axis has ((H + 2 Hk) * D,) features of them all.

    "rows" has all of the query above all of the key above all of the value; "groups" has for each head of keys the
    queries that share it, that key, and its value.
    """
    size = packed.shape[0] // (heads + 2 * groups)  # D
    if packing == "rows":
        return list(np.split(packed, [heads * size, (heads + groups) * size]))  # (H*D, ...), (Hk*D, ...), (Hk*D, ...)
    shared = heads // groups
    by_group = packed.reshape(groups, shared + 2, size, *packed.shape[1:])  # (Hk, H/Hk + 2, D, ...)
    parts = (by_group[:, :shared], by_group[:, shared], by_group[:, shared + 1])
    return [part.reshape(-1, *packed.shape[1:]) for part in parts]  # (H*D, ...), (Hk*D, ...), (Hk*D, ...)


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
    _require_norms(weights, {"query": (heads, size), "key": (groups, size)})
    return size


def _require_norms(weights: Weights, sizes: dict[str, tuple[int, int]]) -> None:
    """InputError for norms that do not fit the heads (H, D) of query and key, or are there for one of them alone."""
    there = weights.named()
    for kind in ("norm", "norm_bias"):
        if (f"query_{kind}" in there) != (f"key_{kind}" in there):
            raise InputError(f"there is a {kind.replace('_', ' ')} for query or key alone: both have one, or none")
    if "query_norm_bias" in there and "query_norm" not in there:
        raise InputError("there is a norm bias, and no norm weights that it would belong to")
    if "query_norm" in there and "added_key" in there:
        raise InputError("there are norms and an added row of keys, and whether that is normalised nobody says")
    for which, (heads, size) in sizes.items():
        for name in (f"{which}_norm", f"{which}_norm_bias"):
            if name in there and there[name].shape not in ((size,), (heads, size), (heads * size,)):
                raise InputError(
                    f"the {name.replace('_', ' ')} has shape {there[name].shape}, and must be (D={size},), "
                    f"({heads}, D={size}) or ({heads * size},)"
                )


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
    if settings.softcap is not None and not 0 < settings.softcap < math.inf:
        raise InputError(f"scores are capped at {settings.softcap}, and must be at a finite number above 0")
    if not 0 <= settings.norm.epsilon < math.inf:
        raise InputError(f"the epsilon of norms is {settings.norm.epsilon}, and must be a finite number, 0 or above")


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
