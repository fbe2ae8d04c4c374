"""Random inputs for layers by themselves, and which sizes are worth a look besides those asked for.

A layer that takes one axis for another is right where the two are equally long, and one that tells axes apart by how
long they are is wrong only there. So a layer of H heads of size D is also called with B, L, S, H and D all different,
with all that can be H equal to H, with L and S equal to D, and with B equal to D. (H and D are the layer's own: whether
it mixes up these two shows only where they differ.)
"""

from __future__ import annotations

import torch

from jubako.attention.description import Settings
from jubako.attention.inputs import estimate_bytes, require_memory
from jubako.attention.observing.described import get_weight
from jubako.attention.observing.multihead import is_called_alike, is_multihead
from jubako.attention.observing.watch import find_layers
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TypeAlias

    from jubako.attention.checking.options import CheckOptions

    Lengths: TypeAlias = "tuple[int, int, int]"  # B, L, S

__all__ = ["describe_sizes", "draw_inputs", "make_inputs", "other_sizes"]

_TAKES = (
    ((torch.nn.TransformerEncoderLayer, torch.nn.TransformerEncoder), 1),
    ((torch.nn.TransformerDecoderLayer, torch.nn.TransformerDecoder), 2),
)  # how many sequences what is no attention layer itself takes
_AT_MOST_BYTES = 1 << 28  # that a look at other sizes may take


def make_inputs(model: Any, options: CheckOptions) -> tuple[torch.Tensor, ...]:
    """Random inputs of the size asked for. InputError for a model of which nobody knows what it takes.

    HostError, before anything is drawn, if what is re-derived of them would not fit into memory.
    """
    sizes = (options.batch, options.length, options.length)
    layers = _layers_of(model)
    if not (_count_sequences(model) or is_multihead(model)):
        raise InputError(
            f"{type(model).__name__} has to be given the inputs to call it with",
            hint="In a file they are returned with it: (model, inputs) or (model, inputs, arguments by name).",
        )
    for layer in layers:
        require_memory(Settings(layer.num_heads), sizes, _features(layer)[0], options.memory_bytes)
    return draw_inputs(model, sizes, options.seed)


def draw_inputs(model: Any, sizes: Lengths, seed: int) -> tuple[torch.Tensor, ...]:
    """Inputs for a layer by itself: one where query, key and value are equally long and wide; or what has it inside."""
    batch, length, keys = sizes
    generator = torch.Generator().manual_seed(seed)
    layer = _layers_of(model)[0]
    embed, *sides = _features(layer)
    query = _draw(layer, (batch, length), embed, generator)
    if not is_multihead(model):
        others = range(1, _count_sequences(model))
        return (query, *(_draw(layer, (batch, keys), embed, generator) for _ in others))
    if sides == [embed, embed] and length == keys:
        return (query,)
    return (query, *(_draw(layer, (batch, keys), features, generator) for features in sides))


def other_sizes(model: Any, options: CheckOptions) -> Iterator[Lengths]:
    """Sizes to call a model with besides those asked for; not those that would take long."""
    layers = _layers_of(model)
    heads, features = layers[0].num_heads, _features(layers[0])
    size = features[0] // max(heads, 1)
    taken = {heads, size, *features}
    free = [n for n in range(2, 12) if n not in taken][:3]
    wanted = [(free[0], free[1], free[2]), (heads, heads, heads), (2, size, size), (size, 3, 2)]
    takes_one = not is_called_alike(model) if is_multihead(model) else _count_sequences(model) == 1
    if takes_one:  # a layer with a call of its own, too: nobody knows of more
        wanted = [(batch, length, length) for batch, length, _ in wanted]
    asked = (options.batch, options.length, options.length)
    most = min(_AT_MOST_BYTES, options.memory_bytes or _AT_MOST_BYTES) / len(layers)
    for sizes in dict.fromkeys(wanted):
        if sizes != asked and estimate_bytes(Settings(heads), sizes, features[0]) <= most:
            yield sizes


def _layers_of(model: Any) -> list[Any]:
    return [model] if is_multihead(model) else [m for m in find_layers(model).values() if is_multihead(m)]


def _count_sequences(model: Any) -> int:
    """How many sequences a model takes that is no attention layer itself; 0 if that is not known."""
    counts = (count for kinds, count in _TAKES if isinstance(model, kinds))
    return next(counts, 0) if _layers_of(model) else 0


def describe_sizes(sizes: Lengths) -> str:
    """ "B=2, L=3, S=5"."""
    return ", ".join(f"{axis}={size}" for axis, size in zip("BLS", sizes, strict=True))


def _draw(layer: Any, sizes: tuple[int, int], features: int, generator: torch.Generator) -> torch.Tensor:
    first, second = sizes if getattr(layer, "batch_first", True) else sizes[::-1]
    drawn = torch.randn(first, second, features, generator=generator, device="cpu")
    return drawn.to(get_weight(layer.out_proj, "weight", "out_proj"))


def _features(layer: Any) -> tuple[int, int, int]:
    """How many features the layer's query, key and value have."""
    embed = int(get_weight(layer.out_proj, "weight", "out_proj").shape[0])
    return embed, int(getattr(layer, "kdim", None) or embed), int(getattr(layer, "vdim", None) or embed)
