"""The inputs of a call, laid out the one way that all else uses, and its masks as numbers that are added to scores.

Inputs may be (B, L, E), (L, B, E) or, without a batch, (L, E); here they become (B, L, E). A mask of booleans becomes 0
and -inf. What does not fit is refused, with both shapes by the names of their axes; so is what would not fit memory,
before any of it is allocated.
"""

from __future__ import annotations

import numpy as np

from jubako.attention.free_memory import require_free
from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from jubako.attention.description import Array, Masks, Past, Settings, Weights

__all__ = [
    "FORBIDDING",
    "Inputs",
    "NonFiniteError",
    "arrange",
    "estimate_bytes",
    "measure",
    "merge_masks",
    "require_memory",
]

FORBIDDING = -1e4  # a number that is added to scores, and no finite weight of a row is left of
# Arrays of (B, H, L, S) doubles that a check has at once, measured: the reference's, those compared, those torch makes.
_MAPS = 14


class NonFiniteError(InputError):
    """NaN or inf in what a layer is called with: in which array, with which axes, and where the first one is."""

    def __init__(self, message: str, name: str, axes: tuple[str, ...], array: Array, is_bad: Array) -> None:
        super().__init__(message)
        self.name = name
        self.axes = axes
        self.shape: tuple[int, ...] = array.shape
        self.place = tuple(int(i) for i in np.argwhere(is_bad)[0])
        self.value = float(array[self.place])
        self.count = int(np.count_nonzero(is_bad))


@record
class Inputs:
    """Inputs as (B, L, E) and (B, S, E) in double precision, and how they were given."""

    query: Array  # (B, L, E)
    key: Array  # (B, S, key E)
    value: Array  # (B, S, value E)
    is_batched: bool

    @property
    def sizes(self) -> tuple[int, int, int]:
        """B, L and S, without what the layer appends."""
        return self.query.shape[0], self.query.shape[1], self.key.shape[1]


def measure(
    given: Mapping[str, Array], weights: Weights, settings: Settings
) -> tuple[tuple[str, ...], tuple[int, int, int]]:
    """The axes of query, key and value, and B, L and S as they come. Nothing is allocated.

    InputError where their shapes do not fit together or the weights.
    """
    ndims = {array.ndim for array in given.values()}
    axes = _axes_of_inputs(given["query"].ndim, batch_first=settings.batch_first)
    if len(ndims) != 1 or not axes:
        shown = ", ".join(f"{name} {array.shape}" for name, array in given.items())
        raise InputError(f"query, key and value must all be (B, L, E), or all (L, E) without a batch: {shown}")
    for name, array in given.items():
        if array.dtype.kind not in "fiu":
            raise InputError(f"the {name} is of type {array.dtype}; attention takes real numbers")
        features = getattr(weights, name).shape[1]
        if array.shape[-1] != features:
            raise InputError(
                f"the {name} is {_show(axes, array.shape)}, and the {name}'s weights take E={features} features"
            )
    shapes = {name: _shape_batch_first(array.shape, axes) for name, array in given.items()}
    _require_same(shapes, "key", "value", 1, "S")
    _require_same(shapes, "query", "key", 0, "B")
    _require_same(shapes, "key", "value", 0, "B")
    for kept in (settings.past, settings.spare):
        if kept is not None:
            _check_kept(kept, shapes["query"][0], weights, settings)
    return axes, (shapes["query"][0], shapes["query"][1], shapes["key"][1])


def arrange(query: Array, key: Array, value: Array, weights: Weights, settings: Settings) -> Inputs:
    """The inputs as (B, L, E), (B, S, E) doubles. InputError where their shapes do not fit together or the weights.

    NonFiniteError where they, or what earlier calls left, hold NaN or inf.
    """
    given = {"query": np.asarray(query), "key": np.asarray(key), "value": np.asarray(value)}
    axes, _ = measure(given, weights, settings)
    laid_out = {name: _batch_first(array, axes) for name, array in given.items()}
    _require_finite(laid_out, ("B", "L", "E"), "batch {}, row {}, feature {}")
    if settings.past is not None:
        past = {"keys of earlier calls": settings.past.key_heads, "values of earlier calls": settings.past.value_heads}
        _require_finite(past, ("B", "H", "S", "D"), "batch {}, head {}, key {}, feature {}")
    return Inputs(laid_out["query"], laid_out["key"], laid_out["value"], len(axes) == 3)


def merge_masks(masks: Masks, settings: Settings, sizes: tuple[int, int, int]) -> Array | None:
    """Both masks and the causal one as one array of numbers to add, (B or 1, H or 1, L or 1, S); None without any."""
    batch, length, keys = sizes[0], sizes[1], sizes[2] + settings.kept_length
    parts: list[Array] = []
    if masks.attention is not None:
        attention = _attention_mask(np.asarray(masks.attention), settings.heads, (batch, length, keys))
        parts.append(_as_added("attention mask", attention))
    if masks.padding is not None:
        padding = np.asarray(masks.padding)
        padding = padding[None] if padding.ndim == 1 else padding  # (B, S)
        if padding.shape != (batch, keys):
            raise InputError(f"the key padding mask is {np.shape(masks.padding)}, and must be (B={batch}, S={keys})")
        parts.append(_as_added("key padding mask", padding)[:, None, None, :])  # (B, 1, 1, S)
    if settings.is_causal:
        parts.append(
            _as_added("causal mask", causal_mask(length, keys, settings.past_length))[None, None]
        )  # (1, 1, L, S)
    if settings.spare is not None:
        is_spare = np.arange(keys) >= keys - settings.spare.length
        with np.errstate(invalid="ignore"):
            others = sum(parts, start=np.zeros((1, 1, 1, keys)))
        # The library's masks forbid a row that may see nothing all keys alike, those that are spare, too.
        sees = (others[..., ~is_spare] > FORBIDDING).any(axis=-1, keepdims=True)  # (B or 1, H or 1, L or 1, 1)
        parts.append(np.where(is_spare & sees, -np.inf, 0.0))  # (B or 1, H or 1, L or 1, S)
    if not parts:
        return None
    with np.errstate(invalid="ignore"):
        return sum(parts[1:], start=parts[0])


def causal_mask(length: int, keys: int, past: int = 0) -> Array:
    """True where a query must not see a key because that is later: (L, S); the first query comes after `past` keys."""
    return np.arange(keys)[None, :] > np.arange(past, past + length)[:, None]


def estimate_bytes(settings: Settings, sizes: tuple[int, int, int], features: int) -> int:
    """Memory that re-deriving a call takes: nearly all of it the maps of scores and weights, in double precision."""
    batch, length, keys = sizes[0], sizes[1], sizes[2] + settings.kept_length
    rows = 16 * batch * (length + keys) * max(features, 1)  # projections, heads, and what these are compared with
    return 8 * (_MAPS * batch * settings.heads * length * (keys + 2) + rows)


def require_memory(settings: Settings, sizes: tuple[int, int, int], features: int, limit_bytes: int | None) -> None:
    """SizeError, with the estimate, if re-deriving a call of these sizes would take more memory than there is."""
    batch, length, keys = sizes[0], sizes[1], sizes[2] + settings.kept_length
    what = f"re-deriving B={batch}, H={settings.heads}, L={length}, S={keys} takes"
    needed = estimate_bytes(settings, sizes, features)
    require_free(needed, limit_bytes, what, hint="Check fewer sequences, or shorter ones.")


def _axes_of_inputs(ndim: int, *, batch_first: bool) -> tuple[str, ...]:
    if ndim == 3:
        return ("B", "L", "E") if batch_first else ("L", "B", "E")
    return ("L", "E") if ndim == 2 else ()


def _batch_first(array: Array, axes: tuple[str, ...]) -> Array:
    """(B, L, E) in double precision."""
    wide = array.astype(np.float64)
    if axes[0] == "B":
        return wide
    return wide[None] if len(axes) == 2 else wide.transpose(1, 0, 2)


def _show(axes: tuple[str, ...], shape: tuple[int, ...]) -> str:
    return f"({', '.join(f'{axis}={size}' for axis, size in zip(axes, shape, strict=True))})"


def _shape_batch_first(shape: tuple[int, ...], axes: tuple[str, ...]) -> tuple[int, ...]:
    if axes[0] == "B":
        return shape
    return (1, *shape) if len(axes) == 2 else (shape[1], shape[0], shape[2])


def _require_same(shapes: dict[str, tuple[int, ...]], one: str, other: str, axis: int, letter: str) -> None:
    sizes = shapes[one][axis], shapes[other][axis]
    if sizes[0] != sizes[1]:
        shown = [_show(("B", "L" if name == "query" else "S", "E"), shapes[name]) for name in (one, other)]
        raise InputError(f"{one} {shown[0]} and {other} {shown[1]} differ in {letter}: {sizes[0]} and {sizes[1]}")


def _check_kept(past: Past, batch: int, weights: Weights, settings: Settings) -> None:
    right = (batch, settings.groups, past.length, weights.query.shape[0] // settings.heads)
    for name in ("key_heads", "value_heads", "key_errors", "value_errors"):
        array = getattr(past, name)
        if array is not None and np.shape(array) != right:
            raise InputError(
                f"the {name.replace('_', ' ')} of earlier calls are {np.shape(array)}, "
                f"and must be {_show(('B', 'Hk', 'P', 'D'), right)}"
            )


def _require_finite(arrays: Mapping[str, Array], axes: tuple[str, ...], words: str) -> None:
    """NonFiniteError for the first array that holds NaN or inf; `words` are for the place, as a format of its axes."""
    for name, array in arrays.items():
        is_bad = ~np.isfinite(array)
        if is_bad.any():
            place = tuple(int(i) for i in np.argwhere(is_bad)[0])
            raise NonFiniteError(
                f"the {name} holds {array[place]}, first at {words.format(*place)}: nothing can be re-derived from it",
                name,
                ("B", "L" if name == "query" else "S", "E") if len(axes) == 3 else axes,
                array,
                is_bad,
            )


def _attention_mask(mask: Array, heads: int, sizes: tuple[int, int, int]) -> Array:
    """(B or 1, H or 1, L or 1, S)."""
    batch, length, keys = sizes
    if mask.shape == (length, keys):
        return mask[None, None]
    if mask.ndim == 3 and mask.shape == (batch * heads, length, keys):
        return mask.reshape(batch, heads, length, keys)
    wanted = ((batch, 1), (heads, 1), (length, 1), (keys,))
    if mask.ndim == 4 and all(size in allowed for size, allowed in zip(mask.shape, wanted, strict=True)):
        return mask
    raise InputError(
        f"the attention mask is {mask.shape}, and must be (L={length}, S={keys}), "
        f"(B*H={batch * heads}, L={length}, S={keys}) or (B={batch} or 1, H={heads} or 1, L={length}, S={keys})"
    )


def _as_added(name: str, mask: Array) -> Array:
    """0 and -inf for booleans; numbers as they are, in double precision."""
    if mask.dtype.kind == "b":
        return np.where(mask, -np.inf, 0.0)
    if mask.dtype.kind == "f":
        is_bad = np.isnan(mask) | np.isposinf(mask)
        if is_bad.any():
            message = f"the {name} holds NaN or inf: numbers are added to the scores, and -inf forbids"
            raise NonFiniteError(message, name, ("B", "H", "L", "S") if mask.ndim == 4 else ("B", "S"), mask, is_bad)
        return mask.astype(np.float64)
    raise InputError(f"the {name} is of type {mask.dtype}: booleans forbid where True, floats are added to the scores")
