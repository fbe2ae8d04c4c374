"""Checks a module of torch's: an attention layer by itself, or all those in a model, while that is called."""

from __future__ import annotations

from contextlib import contextmanager

import torch

from jubako.attention.checking.options import CheckOptions
from jubako.attention.checking.report import Report
from jubako.attention.observing.encoder import compare_whole_layers
from jubako.attention.observing.multihead import fast_path, is_multihead
from jubako.attention.observing.watch import Watch, check_multihead, find_layers
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["Captured", "capture_calls", "check_module"]


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
    if is_multihead(model):
        if not options.wants(kind):
            raise InputError(_describe_layers(options, [kind]))
        return Report(kind, [check_multihead(kind, model, args, kwargs, options)], notes, _tolerance(options))
    watch = _watch(model, options)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with watch, torch.no_grad(), fast_path(enabled=False):  # which does not call the attention that is inside
            model(*args, **kwargs)
        layers = [*watch.layers, *compare_whole_layers(model, args, kwargs)]
    finally:
        for module, is_training in modes.items():
            module.training = is_training
    return Report(kind, layers, notes, _tolerance(options), watch.unchecked)


class Captured:
    """What `capture` has checked so far."""

    def __init__(self, watch: Watch, subject: str, options: CheckOptions) -> None:
        self._watch = watch
        self._subject = subject
        self._options = options

    def report(self) -> Report:
        """The report of all calls up to now."""
        watch = self._watch
        return Report(self._subject, list(watch.layers), (), _tolerance(self._options), list(watch.unchecked))


@contextmanager
def capture_calls(model: torch.nn.Module, options: CheckOptions) -> Iterator[Captured]:
    """Within it, each call of attention in the model is checked."""
    watch = _watch(model, options)
    with watch:
        yield Captured(watch, type(model).__name__, options)


def make_inputs(model: Any, options: CheckOptions) -> tuple[torch.Tensor, ...]:
    """Random inputs for a layer by itself, or an encoder or decoder layer of torch's. InputError for anything else."""
    generator = torch.Generator().manual_seed(options.seed)

    def draw(features: int, layer: Any) -> torch.Tensor:
        parameter = next(layer.parameters())
        is_first = bool(getattr(layer, "batch_first", True))
        sizes = (options.batch, options.length) if is_first else (options.length, options.batch)
        return torch.randn(*sizes, features, generator=generator).to(parameter)

    if is_multihead(model):
        embed = model.out_proj.weight.shape[0]
        sides = (int(getattr(model, "kdim", None) or embed), int(getattr(model, "vdim", None) or embed))
        x = draw(embed, model)
        return (x,) if sides == (embed, embed) else (x, *(draw(features, model) for features in sides))
    layers: list[Any] = [module for module in find_layers(model).values() if is_multihead(module)]
    if isinstance(model, (torch.nn.TransformerEncoderLayer, torch.nn.TransformerEncoder)):
        return (draw(layers[0].embed_dim, layers[0]),)
    if isinstance(model, (torch.nn.TransformerDecoderLayer, torch.nn.TransformerDecoder)):
        return tuple(draw(layers[0].embed_dim, layers[0]) for _ in range(2))
    raise InputError(f"{type(model).__name__} has to be given the inputs to call it with")


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
