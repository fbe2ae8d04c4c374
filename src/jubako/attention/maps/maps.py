"""Maps of attention as a value: weights of layers and heads, the tokens they are about, what is made of them."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np

from jubako.attention.maps.drawable import describe_map, describe_shape, find_place
from jubako.attention.maps.map_file import read_map_file, write_map_file
from jubako.attention.maps.notebook import format_frame
from jubako.attention.maps.page import format_page
from jubako.attention.maps.palette import tint_codes
from jubako.attention.maps.panel import encode
from jubako.attention.maps.png import draw_png
from jubako.attention.maps.svg import Figure, draw_svg
from jubako.attention.maps.terminal import format_map, format_overview
from jubako.errors import InputError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from jubako.attention.maps.palette import Scale, Theme
    from jubako.attention.maps.panel import Coded
    from jubako.attention.maps.terminal import Depth

__all__ = ["Maps"]

_AXES = ("layers", "heads", "L (queries)", "S (keys)")


@record
class Maps:
    """Weights of attention (layers, heads, L, S), float32 or float64: row i holds how much query i takes of each key.

    weights   as an array or what NumPy makes one of; (L, S) and (heads, L, S) are one layer's. float16 becomes float32.
    queries   the tokens of the rows; none: they are numbered.
    keys      those of the columns; none: the tokens of the rows, if there are as many.
    layers, heads   their names; none: they are numbered.
    masked    bool, True where attention is forbidden; (L, S), or with axes for layers and heads, which may be 1.
    is_difference   the weights are one run's minus another's.

    InputError says in a sentence what doesn't fit. The arrays are not copied, and can't be written through this record.
    """

    weights: Any
    queries: Sequence[str] = ()
    keys: Sequence[str] = ()
    layers: Sequence[str] = ()
    heads: Sequence[str] = ()
    title: str = ""
    masked: Any = None
    is_difference: bool = False

    def __post_init__(self) -> None:
        weights = _check_weights(self.weights)  # (layers, heads, L, S)
        layers, heads, rows, columns = weights.shape
        queries = _check_names("tokens of queries", self.queries, rows, "rows of the maps")
        keys = _check_names("tokens of keys", self.keys, columns, "columns of the maps")
        found: dict[str, Any] = {
            "weights": _frozen(weights),
            "queries": queries,
            "keys": keys or (queries if rows == columns else ()),
            "layers": _check_names("names of layers", self.layers, layers, "layers") or _numbered(layers),
            "heads": _check_names("names of heads", self.heads, heads, "heads") or _numbered(heads),
            "title": _check_title(self.title),
            "masked": _check_masked(self.masked, weights.shape),
            "is_difference": bool(self.is_difference),
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        """The same weights, bit for bit but for the sign of zeros, the same masks, tokens and names."""
        if not isinstance(other, Maps):
            return NotImplemented
        return (
            self.weights.dtype == other.weights.dtype
            and np.array_equal(self.weights, other.weights, equal_nan=True)
            and (self.masked is None) == (other.masked is None)
            and (self.masked is None or np.array_equal(self.masked, other.masked))
            and self._about() == other._about()
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have none

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Maps:
        """The maps that `save` wrote, or `numpy.savez(path, weights=...)`; InputError if the file is none of these."""
        arrays, about = read_map_file(path)
        values: dict[str, Any] = {name: about[name] for name in _ABOUT if name in about}
        try:
            return cls(arrays["weights"], masked=arrays.get("masked"), **values)
        except InputError as error:
            raise InputError(f"{os.fspath(path)} is no file of maps: {error}", hint=error.hint) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a file (.npz) that `load` reads, whole or not at all; it replaces nothing but such a file."""
        arrays = {"weights": self.weights} | ({} if self.masked is None else {"masked": self.masked})
        write_map_file(path, arrays, self._about())

    def select(self, layers: Sequence[int | str] | None = None, heads: Sequence[int | str] | None = None) -> Maps:
        """The maps of these layers and heads, by their places or names; they keep their names."""
        chosen = [_find_places("layer", layers, self.layers), _find_places("head", heads, self.heads)]
        masked = self.masked
        if masked is not None:
            for axis, places in enumerate(chosen):
                masked = masked if masked.shape[axis] == 1 else masked.take(places, axis=axis)
        return replace(
            self,
            weights=self.weights[chosen[0]][:, chosen[1]],
            layers=[self.layers[i] for i in chosen[0]],
            heads=[self.heads[i] for i in chosen[1]],
            masked=masked,
        )

    def difference(self, other: Maps) -> Maps:
        """`other` minus these, cell by cell, rounded once; a cell is masked that is so in both. Shapes agree."""
        if self.weights.shape != other.weights.shape:
            raise InputError(
                f"maps of {describe_shape(other.weights.shape)} have no difference to maps of "
                f"{describe_shape(self.weights.shape)}"
            )
        dtype = np.result_type(self.weights, other.weights)
        with np.errstate(invalid="ignore", over="ignore"):
            weights = np.subtract(other.weights, self.weights, dtype=np.float64).astype(dtype)
        masked = None if self.masked is None or other.masked is None else self.masked & other.masked
        return replace(
            self,
            weights=weights,
            queries=_both(self.queries, other.queries),
            keys=_both(self.keys, other.keys),
            title=f"{other.title or 'B'} minus {self.title or 'A'}",
            masked=masked,
            is_difference=True,
        )

    def map_at(self, layer: int | str, head: int | str | None = None) -> Any:
        """One map (L, S); without a head the mean over the layer's heads, added in float64 and rounded once.

        Layers and heads are told by their places or names, here and below; InputError where there is none.
        """
        layer, head = self._find(layer, head)
        if head is not None:
            return self.weights[layer, head]
        with np.errstate(invalid="ignore", over="ignore"):
            mean = self.weights[layer].mean(axis=0, dtype=np.float64)  # (L, S)
            return mean.astype(self.weights.dtype)

    def masked_at(self, layer: int | str, head: int | str | None = None) -> Any:
        """Which cells of a map are masked (L, S), of the mean those masked in all heads; None: there is no mask."""
        layer, head = self._find(layer, head)
        if self.masked is None:
            return None
        part = self.masked[layer if self.masked.shape[0] > 1 else 0]  # (heads or 1, L, S)
        if head is None:
            return part.all(axis=0)
        return part[head if len(part) > 1 else 0]

    def png(
        self, layer: int | str, head: int | str | None = None, *, scale: Scale = "sqrt", theme: Theme = "light"
    ) -> bytes:
        """A PNG of one map, without a head of the mean: a square a cell, on the longer side 512 pixels or more."""
        coded = self._encode(layer, head)
        tints = tint_codes(coded.levels, is_signed=coded.is_signed, scale=scale, theme=theme)
        return draw_png(coded.codes, tints, -(-512 // max(coded.codes.shape)))

    def svg(
        self, layer: int | str, head: int | str | None = None, *, scale: Scale = "sqrt", theme: Theme = "light"
    ) -> str:
        """An SVG of one map with tokens and a scale; InputError if it has more than 256 rows or columns."""
        coded = self._encode(layer, head)
        layer, head = self._find(layer, head)
        title = " · ".join(filter(None, (self.title, describe_map(self, layer, head))))
        return draw_svg(Figure(coded, self.queries, self.keys, title, scale, theme))

    def text(
        self, layer: int | str | None = None, head: int | str | None = None, *, width: int = 80, depth: Depth = 0
    ) -> str:
        """One map for a terminal, without a head of the mean, or without a layer all of them.

        `width`: columns; `depth`: bits of its colours, 24 or 8, or 0 for shades instead.
        """
        if layer is None:
            return format_overview(self, width, depth)
        layer, head = self._find(layer, head)
        return format_map(self, layer, head, width, depth)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return format_frame(b"".join(format_page([("maps", self)])), self.title)

    def _encode(self, layer: int | str, head: int | str | None) -> Coded:
        return encode(self.map_at(layer, head), self.masked_at(layer, head))

    def _find(self, layer: int | str, head: int | str | None) -> tuple[int, int | None]:
        return find_place("layer", layer, self.layers), None if head is None else find_place("head", head, self.heads)

    def _about(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in _ABOUT}


_ABOUT = ("queries", "keys", "layers", "heads", "title", "is_difference")


def _check_weights(given: Any) -> Any:
    try:
        weights = np.asarray(given)
    except (ValueError, TypeError) as error:
        raise InputError(f"weights are no array: {error}") from error
    if weights.dtype == np.float16:
        weights = weights.astype(np.float32)
    if weights.dtype not in (np.float32, np.float64):
        raise InputError(f"weights are of type {weights.dtype}, not of float32 or float64")
    if not 2 <= weights.ndim <= 4:
        raise InputError(f"weights have {weights.ndim} axes {weights.shape}; maps have four: {', '.join(_AXES)}")
    weights = weights.reshape((1,) * (4 - weights.ndim) + weights.shape)
    if not weights.size:
        empty = [name for name, length in zip(_AXES, weights.shape, strict=True) if not length]
        raise InputError(f"there is nothing to show: {' and '.join(empty)} of the maps {weights.shape} are none")
    return weights


def _check_masked(given: Any, shape: tuple[int, ...]) -> Any:
    if given is None:
        return None
    masked = np.asarray(given)
    if masked.dtype != np.bool_:
        raise InputError(f"masked is of type {masked.dtype}, not of bool: True where attention is forbidden")
    whole = (1,) * (4 - masked.ndim) + masked.shape
    fits = len(whole) == 4 and all(n in (1, m) for n, m in zip(whole[:2], shape[:2], strict=True))
    if not fits or whole[2:] != shape[2:]:
        raise InputError(f"masked has shape {masked.shape}, which does not fit maps of {describe_shape(shape)}")
    return _frozen(masked.reshape(whole))


def _check_names(what: str, given: Any, count: int, of: str) -> tuple[str, ...]:
    names = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise InputError(f"{what} are not all texts: {str(given)[:80]!r}")
    if len(names) not in (0, count):
        raise InputError(f"there are {len(names)} {what} for {count} {of}")
    return names


def _check_title(given: Any) -> str:
    if not isinstance(given, str):
        raise InputError(f"the title is no text: {str(given)[:80]!r}")
    return given


def _find_places(what: str, given: Sequence[int | str] | None, names: Sequence[str]) -> list[int]:
    if given is None:
        return list(range(len(names)))
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"which {what}s is told by a list of them, not by {given!r}")
    return [find_place(what, each, names) for each in given]


def _both(ones: Sequence[str], others: Sequence[str]) -> Sequence[str]:
    """The tokens of two runs: where they are not the same, both."""
    if not ones or not others:
        return ones or others
    return [a if a == b else f"{a}→{b}" for a, b in zip(ones, others, strict=True)]


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def _frozen(array: Any) -> Any:
    view = array.view()
    view.setflags(write=False)
    return view
