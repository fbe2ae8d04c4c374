"""What can be drawn: the part of `Maps` that pages and texts are made of, which know nothing of the record itself."""

from __future__ import annotations

import operator
from typing import Protocol

from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

__all__ = ["Drawable", "describe_map", "describe_shape", "find_place", "maps_of"]

_WORDS = (("layer", "layers"), ("head", "heads"), ("query", "queries"), ("key", "keys"))


class Drawable(Protocol):
    """Maps of layers and heads; see `Maps` for what each is."""

    @property
    def weights(self) -> Any: ...
    @property
    def queries(self) -> Sequence[str]: ...
    @property
    def keys(self) -> Sequence[str]: ...
    @property
    def layers(self) -> Sequence[str]: ...
    @property
    def heads(self) -> Sequence[str]: ...
    @property
    def title(self) -> str: ...
    def map_at(self, layer: int, head: int | None) -> Any:
        """One map (L, S); with None the mean of the heads."""

    def masked_at(self, layer: int, head: int | None) -> Any:
        """Which of its cells are masked (L, S), or None."""


def maps_of(maps: Drawable) -> Iterator[tuple[int, int | None]]:
    """All places of maps: layer by layer, and of each the heads, then None for their mean."""
    layers, heads, *_ = maps.weights.shape
    for layer in range(layers):
        yield from ((layer, head) for head in range(heads))
        yield layer, None


def find_place(what: str, given: Any, names: Sequence[str]) -> int:
    """The place of a layer or head: a number, or its name, or else a number as text. InputError if there is none."""
    if isinstance(given, str):
        if given in names:
            return names.index(given)
        if given.isdecimal() and int(given) < len(names) and not all(each.isdecimal() for each in names):
            return int(given)
        shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        raise InputError(f"there is no {what} {given!r}; there is {shown}")
    try:
        place = operator.index(given)
    except TypeError:
        raise InputError(f"a {what} is told by its number or its name, not by {type(given).__name__}") from None
    if not 0 <= place < len(names):
        raise InputError(f"there is no {what} {given}: there are {len(names)}, from 0 on")
    return place


def describe_map(maps: Drawable, layer: int, head: int | None) -> str:
    """ "layer 3, head 5"; a layer that is not numbered by its name."""
    name = maps.layers[layer]
    of = "mean of heads" if head is None else f"head {maps.heads[head]}"
    return f"{f'layer {name}' if name.isdecimal() else name}, {of}"


def describe_shape(shape: Sequence[int]) -> str:
    """ "12 layers x 12 heads x 512 queries x 512 keys"."""
    return " x ".join(f"{n} {one if n == 1 else many}" for n, (one, many) in zip(shape, _WORDS, strict=True))
