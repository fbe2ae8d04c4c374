"""Watches a model's attention modules while it is called, and checks each call as it ends.

Modules of the transformers library are traced in the very call. Of torch's layer what the call gave back is compared,
and it is run again on the same inputs, all its ways, since which way the model takes is only one of them.
"""

from __future__ import annotations

from threading import get_ident

import torch

from jubako.attention.checking.judge import expect
from jubako.attention.checking.layers import report_layer
from jubako.attention.checking.verdicts import LayerReport
from jubako.attention.description import find_bad_numbers
from jubako.attention.observing import huggingface, multihead
from jubako.attention.observing.caches import AS_GIVEN, CacheMemory, Held, find_held, find_spare
from jubako.attention.observing.compiling import find_compiled, not_compiled
from jubako.attention.observing.described import as_computed
from jubako.attention.observing.holding import holding_weights
from jubako.attention.observing.ways import (
    NOT_SEEN,
    Made,
    Subject,
    drops_weights,
    observe_call,
    renew_weights,
    run_all_ways,
)
from jubako.attention.observing.weighted import require_type_of_products, trace_of
from jubako.errors import JubakoError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from jubako.attention.checking.judge import Observed
    from jubako.attention.checking.options import CheckOptions
    from jubako.attention.observing.multihead import Arguments
    from jubako.attention.observing.trace import Trace

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
    made: Made | None = None,
) -> LayerReport:
    """Torch's layer, or one that is called like it, run all its ways; and a call of it that was made, if one is given.

    Under autocast it is judged as computed in the type that this casts to.
    """
    with holding_weights(module):
        arguments = multihead.read_arguments(args, kwargs)
        if made is None:
            renew_weights(module, arguments)

        def observe(subject: Subject) -> list[Observed]:
            runs = run_all_ways(subject)
            return runs if made is None else [observe_call(subject, made, runs), *runs]

        return _report_multihead(name, module, arguments, options, observe)


def _report_multihead(
    name: str,
    module: torch.nn.Module,
    arguments: Arguments,
    options: CheckOptions,
    observe: Callable[[Subject], list[Observed]],
) -> LayerReport:
    described = as_computed(multihead.describe_multihead(module))
    if broken := find_bad_numbers(described.weights):
        return LayerReport(name, described.kind, {}, broken=broken)
    call = multihead.to_call(described, arguments, options.memory_bytes)
    expected = expect(call)
    sizes = multihead.sizes_of(described, expected.values)
    runs = observe(Subject(module, described, arguments, sizes, expected.values, options.seed))
    return report_layer(name, described.kind, call, expected, runs, options.tolerance)


def _is_run_again(module: torch.nn.Module) -> bool:
    """True for what can be run all its ways, because it takes all that torch's layer does."""
    return multihead.is_multihead(module) and multihead.is_called_alike(module)


_CHECKING: set[int] = set()  # the threads that are checking a call now: what they call is no call of a model's


@record
class _Begun:
    """A call that is being traced."""

    trace: Trace
    held: Held | None = None  # what the cache held before that it appends to


class Watch:
    """With it: each call of a model's attention modules is checked. `layers` has the reports, in the order of calls."""

    def __init__(self, model: torch.nn.Module, options: CheckOptions) -> None:
        self.layers: list[LayerReport] = []
        self.unchecked: list[str] = []  # what was not checked, and why
        self._options = options
        self._handles: list[Any] = []
        self._begun: dict[tuple[int, torch.nn.Module], _Begun] = {}  # by thread
        self._caches = CacheMemory()
        self._names = {
            module: name or type(module).__name__ for name, module in find_layers(model).items() if options.wants(name)
        }
        self._is_compiled = bool(find_compiled(model))
        self._called: set[torch.nn.Module] = set()

    def __bool__(self) -> bool:
        """True if there is anything to watch."""
        return bool(self._names)

    def __enter__(self) -> Self:
        for module, name in self._names.items():
            if reason := huggingface.find_reason_against(module):
                self.unchecked.append(f"{name}: {reason}")
                continue
            begin, end = self._begin, self._end
            if self._is_compiled:  # or these would be compiled, too
                begin, end = not_compiled(begin), not_compiled(end)
            self._handles.append(module.register_forward_pre_hook(begin, with_kwargs=True))
            self._handles.append(module.register_forward_hook(end, with_kwargs=True, always_call=True))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def find_uncalled(self) -> list[str]:
        """What was watched, and never called."""
        told = {sentence.partition(": ")[0] for sentence in self.unchecked}
        uncalled = [name for module, name in self._names.items() if module not in self._called]
        return [f"{name}: it was not called" for name in uncalled if name not in told]

    def _begin(self, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        self._called.add(module)
        if get_ident() in _CHECKING or (_is_run_again(module) and not drops_weights(module)):
            return
        held = None
        try:
            if not multihead.is_multihead(module):
                held = find_held(huggingface.find_cache(module, args, kwargs))
        except Exception as error:  # noqa: BLE001  (the model itself is to say what is wrong with its call)
            self.unchecked.append(f"{self._names[module]}: {error}")
            return
        self._begun[get_ident(), module] = begun = _Begun(trace_of(module), held)
        begun.trace.__enter__()  # type: ignore[no-untyped-call]

    def _end(self, module: torch.nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        begun = self._begun.pop((get_ident(), module), None)
        if begun is not None:
            begun.trace.__exit__(None, None, None)
        is_checking = get_ident() in _CHECKING
        if is_checking or result is None or (begun is None and not _is_run_again(module)):  # None: it raised
            return
        _CHECKING.add(get_ident())
        try:
            with torch.no_grad():
                self.layers.append(self._check(module, args, kwargs, result, begun))
        except JubakoError as error:
            self.unchecked.append(f"{self._names[module]}: {error.message}")
            self._caches.forget(module)
        except Exception as error:  # noqa: BLE001  (the model's call is to end as if nobody watched)
            self.unchecked.append(f"{self._names[module]}: checking it raises {type(error).__name__}: {error}")
            self._caches.forget(module)
        finally:
            _CHECKING.discard(get_ident())

    def _check(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, begun: _Begun | None
    ) -> LayerReport:
        name = self._names[module]
        trace = None if begun is None else begun.trace
        if begun is None or _is_run_again(module):
            return check_multihead(name, module, args, kwargs, self._options, Made(result, trace))
        if multihead.is_multihead(module):
            arguments, made = multihead.read_arguments(args, kwargs), Made(result, begun.trace)
            with holding_weights(module):
                return _report_multihead(
                    name, module, arguments, self._options, lambda subject: [observe_call(subject, made)]
                )
        with holding_weights(module):
            described = as_computed(huggingface.describe_transformer(module))
        if broken := find_bad_numbers(described.weights):
            return LayerReport(name, described.kind, {}, broken=broken)
        require_type_of_products(begun.trace, described)
        past, notes = None, []
        if begun.held is not None:
            past, is_known = self._caches.find_past(module, begun.held)
            notes = [] if is_known else [AS_GIVEN]
        cache = huggingface.find_cache(module, args, kwargs)  # which may have got a part for the module only now
        kept = (past, find_spare(cache))
        call = huggingface.to_call(module, described, args, kwargs, kept, self._options.memory_bytes)
        expected = expect(call)
        if cache is not None:
            self._caches.keep(module, cache, expected)
        sizes = multihead.sizes_of(described, expected.values)
        observed = huggingface.observe(module, begun.trace, sizes, expected.values, result, in_training=module.training)
        runs = [replace(observed, notes=[*notes, *observed.notes])]
        if NOT_SEEN in observed.notes and cache is None:
            again, trace = _call_out_of_training(module, args, kwargs)
            seen = huggingface.observe(module, trace, sizes, expected.values, again, in_training=False)
            runs.append(replace(seen, name="called once more, out of training"))
        return report_layer(name, described.kind, call, expected, runs, self._options.tolerance)


def _call_out_of_training(module: torch.nn.Module, args: Any, kwargs: Any) -> tuple[Any, Trace]:
    modes = {each: each.training for each in module.modules()}
    trace = trace_of(module)
    module.eval()
    try:
        with trace:
            return module(*args, **kwargs), trace
    finally:
        for each, is_training in modes.items():
            each.training = is_training
