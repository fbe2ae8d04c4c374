"""Checks a module of torch's: an attention layer by itself, or all those in a model, while that is called."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import torch

from jubako.attention.checking.options import CheckOptions
from jubako.attention.checking.report import Report
from jubako.attention.observing.calling import ModelError, telling_errors
from jubako.attention.observing.compiling import as_written, find_compiled
from jubako.attention.observing.encoder import compare_whole_layers
from jubako.attention.observing.modes import TURNING, evaluating, fast_path
from jubako.attention.observing.multihead import is_called_alike, is_multihead
from jubako.attention.observing.random_inputs import describe_sizes, draw_inputs, make_inputs, other_sizes
from jubako.attention.observing.rerun import check_multihead
from jubako.attention.observing.watch import Watch, find_layers
from jubako.errors import InputError
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from jubako.attention.checking.verdicts import LayerReport

__all__ = ["Captured", "capture_calls", "check_module"]


def check_module(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], options: CheckOptions
) -> Report:
    """The report of all attention in a module, called with these arguments; without any, with random ones."""
    kind = type(model).__name__
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"what is checked is a module of torch's, or the path of a file of weights, not a {kind}")
    if args or kwargs:
        layers, unchecked = _check_call(model, args, kwargs, options)
        return Report(kind, layers, (), _tolerance(options), unchecked)
    layers, unchecked = _check_call(model, make_inputs(model, options), {}, options)
    for sizes in other_sizes(model, options):
        told = describe_sizes(sizes)
        try:
            more, _ = _check_call(model, draw_inputs(model, sizes, options.seed), {}, options)
        except InputError as error:
            unchecked.append(f"{kind} with {told}: {error.message}")
        else:
            layers = _merge(layers, more, told)
    notes = [f"the inputs are random, drawn with seed {options.seed}"]
    return Report(kind, layers, notes, _tolerance(options), unchecked)


def _check_call(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], options: CheckOptions
) -> tuple[list[LayerReport], list[str]]:
    """The reports of the layers in a call, and what was not checked."""
    kind = type(model).__name__
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(f"{kind} is scripted, and what that calls nobody can watch", hint="Check what it was made of.")
    if is_multihead(model) and is_called_alike(model):
        if not options.wants(kind):
            raise InputError(_describe_layers(options, [kind]))
        with TURNING:
            return [check_multihead(kind, model, args, kwargs, options)], []
    watch = _watch(model, options, is_ours=True)
    watch.refuse_too_large(args, kwargs)
    compiled = find_compiled(model)
    raised = None
    with TURNING, evaluating(model), as_written() if compiled else nullcontext():
        with watch, torch.no_grad(), fast_path(enabled=False):  # which does not call the attention that is inside
            try:
                with telling_errors():
                    model(*args, **kwargs)
            except ModelError as error:
                raised = error
        whole, uncompared = compare_whole_layers(model, args, kwargs, options.memory_bytes)
    layers = [*watch.layers, *whole]
    unchecked = [*watch.unchecked, *watch.find_uncalled(), *uncompared, *_tell_compiled(compiled)]
    if raised is None:
        return layers, unchecked
    if all(layers):
        raise raised
    return layers, [*unchecked, f"{kind}: the rest of it, as {raised.message}"]


def _merge(layers: list[LayerReport], more: Sequence[LayerReport], told: str) -> list[LayerReport]:
    """With the runs of a call of the same layers at other sizes: where axes are mixed up, they differ."""
    if [layer.name for layer in layers] != [layer.name for layer in more]:
        return [*layers, *more]
    merged = []
    for layer, other in zip(layers, more, strict=True):
        runs = [replace(run, name=f"{run.name}, {told}", sizes=told) for run in other.runs]
        named = {trap.name for trap in layer.traps}
        traps = [trap for trap in other.traps if trap.is_failure and trap.name not in named]
        traps = [replace(trap, sentence=f"{trap.sentence} ({told})") for trap in traps]
        merged.append(replace(layer, runs=[*layer.runs, *runs], traps=[*layer.traps, *traps]))
    return merged


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
    watch = _watch(model, options, is_ours=False)
    with watch:
        yield Captured(watch, model, options)


def _watch(model: torch.nn.Module, options: CheckOptions, *, is_ours: bool) -> Watch:
    watch = Watch(model, options, is_ours=is_ours)
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
