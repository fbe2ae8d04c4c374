"""What can be drawn: the part of `Maps` that pages and texts are made of, which know nothing of the record itself."""

from __future__ import annotations

from typing import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

__all__ = ["Drawable", "describe_map", "describe_shape", "maps_of"]

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


def describe_map(maps: Drawable, layer: int, head: int | None) -> str:
    """ "layer 3, head 5"; a layer that is not numbered by its name."""
    name = maps.layers[layer]
    of = "mean of heads" if head is None else f"head {maps.heads[head]}"
    return f"{f'layer {name}' if name.isdecimal() else name}, {of}"


def describe_shape(shape: Sequence[int]) -> str:
    """ "12 layers x 12 heads x 512 queries x 512 keys"."""
    return " x ".join(f"{n} {one if n == 1 else many}" for n, (one, many) in zip(shape, _WORDS, strict=True))
