"""Checks a module of torch's: an attention layer by itself, or all those in a model, while that is called."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import torch

from jubako.attention.checking.options import CheckOptions
from jubako.attention.checking.report import Report
from jubako.attention.description import Settings
from jubako.attention.inputs import require_memory
from jubako.attention.observing.compiling import as_written, find_compiled
from jubako.attention.observing.described import get_weight
from jubako.attention.observing.encoder import compare_whole_layers
from jubako.attention.observing.multihead import fast_path, is_called_alike, is_multihead
from jubako.attention.observing.watch import Watch, check_multihead, find_layers
from jubako.errors import InputError, JubakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

__all__ = ["Captured", "capture_calls", "check_module"]

_TAKES = (
    ((torch.nn.TransformerEncoderLayer, torch.nn.TransformerEncoder), 1),
    ((torch.nn.TransformerDecoderLayer, torch.nn.TransformerDecoder), 2),
)  # how many sequences what is no attention layer itself takes


def check_module(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], options: CheckOptions
) -> Report:
    """The report of all attention in a module, called with these arguments; without any, with random ones."""
    kind = type(model).__name__
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"what is checked is a module of torch's, or the path of a file of weights, not a {kind}")
    notes: list[str] = []
    if not args and not kwargs:
        args = make_inputs(model, options)
        notes.append(f"the inputs are random, drawn with seed {options.seed}")
    if is_multihead(model) and is_called_alike(model):
        if not options.wants(kind):
            raise InputError(_describe_layers(options, [kind]))
        return Report(kind, [check_multihead(kind, model, args, kwargs, options)], notes, _tolerance(options))
    watch = _watch(model, options)
    compiled = find_compiled(model)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with as_written() if compiled else nullcontext():
            with watch, torch.no_grad(), fast_path(enabled=False):  # which does not call the attention that is inside
                _call(model, args, kwargs)
            layers = [*watch.layers, *compare_whole_layers(model, args, kwargs)]
    finally:
        for module, is_training in modes.items():
            module.training = is_training
    unchecked = [*watch.unchecked, *watch.find_uncalled()]
    return Report(kind, layers, notes, _tolerance(options), [*unchecked, *_tell_compiled(compiled)])


def _call(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        model(*args, **kwargs)
    except JubakoError:
        raise
    except Exception as error:  # the module's own code
        raise InputError(f"calling {type(model).__name__} raises {type(error).__name__}: {error}") from error


def _tell_compiled(names: Sequence[str]) -> list[str]:
    return [f"{name}: what it was compiled to; checked is what was run as it is written" for name in names]


class Captured:
    """What `capture` has checked so far."""

    def __init__(self, watch: Watch, model: torch.nn.Module, options: CheckOptions) -> None:
        self._watch = watch
        self._subject = type(model).__name__
        self._compiled = find_compiled(model)
        self._options = options

    def report(self) -> Report:
        """The report of all calls up to now."""
        watch = self._watch
        unchecked = [*watch.unchecked, *(f"{name}: calls within what it was compiled to" for name in self._compiled)]
        return Report(self._subject, list(watch.layers), (), _tolerance(self._options), unchecked)


@contextmanager
def capture_calls(model: torch.nn.Module, options: CheckOptions) -> Iterator[Captured]:
    """Within it, each call of attention in the model is checked."""
    watch = _watch(model, options)
    with watch:
        yield Captured(watch, model, options)


def make_inputs(model: Any, options: CheckOptions) -> tuple[torch.Tensor, ...]:
    """Random inputs for a layer by itself, or an encoder or decoder layer of torch's. InputError for anything else.

    HostError, before anything is drawn, if what is re-derived of them would not fit into memory.
    """
    layers: list[Any] = [model] if is_multihead(model) else [m for m in find_layers(model).values() if is_multihead(m)]
    count = next((count for kinds, count in _TAKES if isinstance(model, kinds)), 0) if layers else 0
    if not (count or is_multihead(model)):
        raise InputError(f"{type(model).__name__} has to be given the inputs to call it with")
    generator = torch.Generator().manual_seed(options.seed)
    for layer in layers:
        sizes = (options.batch, options.length, options.length)
        require_memory(Settings(layer.num_heads), sizes, _features(layer)[0], options.memory_bytes)
    layer = layers[0]
    like = get_weight(layer.out_proj, "weight", "out_proj")
    first, second = options.batch, options.length
    if not getattr(layer, "batch_first", True):
        first, second = second, first

    def draw(features: int) -> torch.Tensor:
        return torch.randn(first, second, features, generator=generator).to(like)

    embed, *sides = _features(layer)
    if count:
        return tuple(draw(embed) for _ in range(count))
    return (draw(embed),) if sides == [embed, embed] else tuple(map(draw, (embed, *sides)))


def _features(layer: Any) -> tuple[int, int, int]:
    """How many features the layer's query, key and value have."""
    embed = int(get_weight(layer.out_proj, "weight", "out_proj").shape[0])
    return embed, int(getattr(layer, "kdim", None) or embed), int(getattr(layer, "vdim", None) or embed)


def _watch(model: torch.nn.Module, options: CheckOptions) -> Watch:
    watch = Watch(model, options)
    if watch:
        return watch
    if names := [name or type(model).__name__ for name in find_layers(model)]:
        raise InputError(_describe_layers(options, names))
    raise InputError(f"there is no attention in {type(model).__name__} that is known", hint=_list_modules(model))


def _describe_layers(options: CheckOptions, names: list[str]) -> str:
    there = f"{', '.join(names[:6])}{' ...' if len(names) > 6 else ''}"
    return f"no layer has {options.layer!r} in its name: there is {there}"


def _tolerance(options: CheckOptions) -> str:
    return "" if options.tolerance is None else options.tolerance.describe()


def _list_modules(model: torch.nn.Module) -> str:
    kinds = sorted({type(module).__name__ for module in model.modules()})
    return f"It is made of {', '.join(kinds[:12])}{' ...' if len(kinds) > 12 else ''}."
