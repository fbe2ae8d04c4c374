"""Watches a model's attention modules while it is called, and checks each call as it ends.

Modules of the transformers library are traced in the very call. Of torch's layer what the call gave back is compared,
and it is run again on the same inputs, all its ways, since which way the model takes is only one of them.
"""

from __future__ import annotations

import torch

from jubako.attention.checking.judge import Observed, expect
from jubako.attention.checking.layers import report_layer
from jubako.attention.checking.verdicts import LayerReport
from jubako.attention.description import find_bad_numbers
from jubako.attention.observing import huggingface, multihead
from jubako.attention.observing.roles import find_steps, to_array
from jubako.attention.observing.trace import Trace
from jubako.attention.observing.ways import Subject, find_dropped_steps, observe_call, run_all_ways
from jubako.errors import InputError, JubakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from jubako.attention.checking.options import CheckOptions

__all__ = ["Watch", "check_multihead", "find_layers"]


def find_layers(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The attention modules of a model by name, "" for the model itself; not those inside others."""
    found: dict[str, torch.nn.Module] = {}
    for name, module in model.named_modules():
        is_inside = any(name.startswith(f"{outer}." if outer else "") for outer in found)
        if not is_inside and (multihead.is_multihead(module) or huggingface.is_transformer(module)):
            found[name] = module
    return found


def check_multihead(
    name: str,
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: CheckOptions,
    result: Any = None,
) -> LayerReport:
    """Torch's layer, or one that is called like it, run all its ways; and the result of a call of it, if one is given.

    InputError under autocast, where nothing is computed in the type that the parameters have.
    """
    _refuse_autocast(module)
    described = multihead.describe_multihead(module)
    if broken := find_bad_numbers(described.weights):
        return LayerReport(name, described.kind, {}, broken=broken)
    arguments = multihead.read_arguments(args, kwargs)
    call = multihead.to_call(described, arguments, options.memory_bytes)
    expected = expect(call)
    sizes = multihead.sizes_of(described, expected.values)
    subject = Subject(module, arguments, sizes, expected.values, options.seed)
    runs = run_all_ways(subject)
    if result is not None:
        runs.insert(0, observe_call(subject, result, runs))
    return report_layer(name, described.kind, call, expected, runs, options.tolerance)


class Watch:
    """With it: each call of a model's attention modules is checked. `layers` has the reports, in the order of calls."""

    def __init__(self, model: torch.nn.Module, options: CheckOptions) -> None:
        self.layers: list[LayerReport] = []
        self.unchecked: list[str] = []  # what was not checked, and why
        self._options = options
        self._handles: list[Any] = []
        self._traces: dict[torch.nn.Module, Trace] = {}
        self._names = {
            module: name or type(module).__name__ for name, module in find_layers(model).items() if options.wants(name)
        }
        self._is_busy = False

    def __bool__(self) -> bool:
        """True if there is anything to watch."""
        return bool(self._names)

    def __enter__(self) -> Self:
        for module, name in self._names.items():
            if reason := huggingface.find_reason_against(module):
                self.unchecked.append(f"{name}: {reason}")
                continue
            self._handles.append(module.register_forward_pre_hook(self._begin, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._end, with_kwargs=True, always_call=True))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _begin(self, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        if self._is_busy or multihead.is_multihead(module):
            return
        try:
            cached = huggingface.count_cached(module, args, kwargs)
        except Exception as error:  # noqa: BLE001  (the model itself is to say what is wrong with its call)
            self.unchecked.append(f"{self._names[module]}: {error}")
            return
        if cached:
            self.unchecked.append(f"{self._names[module]}: a call that uses keys of earlier calls, from a cache")
            return
        self._traces[module] = trace = Trace(module.parameters())
        trace.__enter__()  # type: ignore[no-untyped-call]

    def _end(self, module: torch.nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        trace = self._traces.pop(module, None)
        if trace is not None:
            trace.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        if self._is_busy or result is None or (trace is None and not multihead.is_multihead(module)):  # None: it raised
            return
        self._is_busy = True
        try:
            with torch.no_grad():
                self.layers.append(self._check(module, args, kwargs, result, trace))
        except JubakoError as error:
            self.unchecked.append(f"{self._names[module]}: {error.message}")
        except Exception as error:  # noqa: BLE001  (the model's call is to end as if nobody watched)
            self.unchecked.append(f"{self._names[module]}: checking it raises {type(error).__name__}: {error}")
        finally:
            self._is_busy = False

    def _check(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, trace: Trace | None
    ) -> LayerReport:
        name = self._names[module]
        if trace is None:
            return check_multihead(name, module, args, kwargs, self._options, result)
        _refuse_autocast(module)
        described = huggingface.describe_transformer(module)
        if broken := find_bad_numbers(described.weights):
            return LayerReport(name, described.kind, {}, broken=broken)
        call = huggingface.to_call(module, described, args, kwargs, self._options.memory_bytes)
        expected = expect(call)
        sizes = multihead.sizes_of(described, expected.values)
        dropout, drops_output = huggingface.find_dropout(module)
        find = find_dropped_steps if dropout else find_steps
        values = find(trace, sizes, expected.values, is_training=dropout > 0)
        results = result if isinstance(result, tuple) else (result,)
        if huggingface.gives_output(module):
            values["output"] = to_array(results[0])
        if len(results) > 1 and isinstance(results[1], torch.Tensor) and not dropout:
            values["weights"] = to_array(results[1])
        notes = []
        hidden: tuple[str, ...] = ("output",) if drops_output else ()
        if dropout and "weights" not in values:  # what was left out is not seen
            hidden = ("context", "concatenated", "output")
        if hidden:
            values = {step: array for step, array in values.items() if step not in hidden}
            notes.append(f"in training, with dropout: {', '.join(hidden)} is not compared")
        observed = Observed(_way(module, values), values, notes=notes, dropout=dropout)
        return report_layer(name, described.kind, call, expected, [observed], self._options.tolerance)


def _refuse_autocast(module: torch.nn.Module) -> None:
    kind = next(module.parameters()).device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        raise InputError("it is called under autocast, and so not computed in the type of its parameters")


def _way(module: Any, values: dict[str, Any]) -> str:
    """Which kernel computed it."""
    config = getattr(module, "config", None) or getattr(getattr(module, "self", None), "config", None)
    kind = getattr(config, "_attn_implementation", None)
    return f"as called, {kind or ('plain' if 'weights' in values else 'fused')}"
