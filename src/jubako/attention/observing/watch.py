"""Watches a model's attention modules while it is called, and checks each call as it ends.

Modules of the transformers library are traced in the very call. Of torch's layer what the call gave back is compared,
and it is run again on the same inputs, all its ways, since which way the model takes is only one of them.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import RLock, get_ident

import torch
from torch.utils._python_dispatch import _disable_current_modes

from jubako.attention.checking.judge import expect
from jubako.attention.checking.layers import report_layer
from jubako.attention.checking.non_finite import report_non_finite, report_result
from jubako.attention.checking.verdicts import LayerReport
from jubako.attention.description import find_bad_numbers
from jubako.attention.free_memory import SizeError
from jubako.attention.inputs import NonFiniteError
from jubako.attention.observing import huggingface, multihead
from jubako.attention.observing.caches import AS_GIVEN, CacheMemory, Held, find_held, find_spare
from jubako.attention.observing.calling import describe_error
from jubako.attention.observing.compiling import find_compiled, not_compiled
from jubako.attention.observing.described import as_computed
from jubako.attention.observing.holding import holding_weights
from jubako.attention.observing.hooks import Hook
from jubako.attention.observing.modes import TURNING, evaluating
from jubako.attention.observing.ongoing import Ongoing
from jubako.attention.observing.promises import find_seen_futures
from jubako.attention.observing.rerun import check_multihead, is_run_again, report_multihead
from jubako.attention.observing.room import require_room, require_room_for_tokens
from jubako.attention.observing.surroundings import CHECKING, Surroundings
from jubako.attention.observing.ways import NOT_SEEN, Made, drops_weights, observe_call
from jubako.attention.observing.weighted import require_type_of_products, trace_of
from jubako.errors import JubakoError
from jubako.records import record, replace

TYPECHECKING = False
if TYPECHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Self

    from jubako.attention.checking.options import CheckOptions
    from jubako.attention.checking.verdicts import StepVerdict
    from jubako.attention.observing.trace import Trace

__all__ = ["Watch", "find_layers"]


def find_layers(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The attention modules of a model by name, "" for the model itself; not those inside others."""
    found: dict[str, torch.nn.Module] = {}
    for name, module in model.named_modules():
        is_inside = any(name.startswith(f"{outer}." if outer else "") for outer in found)
        if not is_inside and (multihead.is_multihead(module) or huggingface.is_transformer(module)):
            found[name] = module
    return found


def _find_reason_against(module: torch.nn.Module) -> str:
    if isinstance(module, torch.jit.ScriptModule):
        return "it is scripted, and what that calls nobody can watch"
    try:
        return huggingface.find_reason_against(module)
    except Exception as error:  # noqa: BLE001  (the module's own code: an attribute that is computed)
        return f"looking at it raises {describe_error(error)}"


@record
class _Begun:
    """A call that was traced."""

    trace: Trace
    held: Held | None  # what the cache held before that it appends to


class Watch:
    """With it: each call of a model's attention modules is checked.

    A call that would take more memory than there is ends with a SizeError if `is_ours`, made for checking alone; others
    are left to go on unchecked.
    """

    def __init__(self, model: torch.nn.Module, options: CheckOptions, *, is_ours: bool) -> None:
        self._layers: list[LayerReport] = []
        self._unchecked: list[str] = []
        self._model = model
        self._options = options
        self._is_ours = is_ours
        self._handles: list[Any] = []
        self._ongoing = Ongoing()
        self._turn = RLock() if is_ours else TURNING  # which is held for all of our call, whatever threads that starts
        self._caches = CacheMemory()
        found = find_layers(model)
        self._names = {module: name or type(module).__name__ for name, module in found.items() if options.wants(name)}
        self._surroundings = Surroundings(model, found.values())
        self._is_compiled = bool(find_compiled(model))
        self._called: set[torch.nn.Module] = set()

    def __bool__(self) -> bool:
        """True if there is anything to watch."""
        return bool(self._names)

    @property
    def layers(self) -> list[LayerReport]:
        """The reports, in the order of calls; and that of the model, if it gives NaN that came into none of them."""
        around = self._surroundings
        if not around.gives_bad or any(step.verdict == "non_finite" for step in _departures(self._layers)):
            return list(self._layers)
        kind = type(self._model)
        whole = report_result("the model", f"{kind.__module__}.{kind.__qualname__}", around.producer)
        return [*self._layers, whole]

    @property
    def unchecked(self) -> list[str]:
        """What was not checked, and why."""
        unknown = [
            f"{name}: attention is computed in it ({how}) outside of any layer that is known, "
            "and that is not re-derived"
            for name, how in self._surroundings.unknown.items()
            if self._options.wants(name)
        ]
        return [*dict.fromkeys(self._unchecked), *unknown]  # once, however many calls there were

    def __enter__(self) -> Self:
        try:
            self._register()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _register(self) -> None:
        around = [] if self._is_compiled and not self._is_ours else self._surroundings.find_modules()
        for module in around:  # these begin first and end last
            self._handles.append(module.register_forward_pre_hook(Hook(self._surroundings.begin), with_kwargs=True))
        for module, name in self._names.items():
            if reason := _find_reason_against(module):
                self._unchecked.append(f"{name}: {reason}")
                continue
            begin, end = Hook(self._begin), Hook(self._end)
            if self._is_compiled:  # or these would be compiled, too
                begin, end = not_compiled(begin), not_compiled(end)
            self._handles.append(module.register_forward_pre_hook(begin, with_kwargs=True))
            self._handles.append(module.register_forward_hook(end, with_kwargs=True, always_call=True))
        for module in around:
            end = Hook(self._surroundings.end)
            self._handles.append(module.register_forward_hook(end, with_kwargs=True, always_call=True))

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._ongoing.close()
        self._surroundings.close()

    def refuse_too_large(self, args: Any, kwargs: Any) -> None:
        """SizeError if a call of the model is known to be too large from what it is called with."""
        require_room_for_tokens(self._model, self._names, (args, kwargs), self._options.memory_bytes)

    def find_uncalled(self) -> list[str]:
        """What was watched, and never called."""
        told = {sentence.partition(": ")[0] for sentence in self._unchecked}
        uncalled = [name for module, name in self._names.items() if module not in self._called]
        return [f"{name}: it was not called" for name in uncalled if name not in told]

    def _begin(self, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        if module not in self._names:  # a copy of one
            return
        self._called.add(module)
        if get_ident() in CHECKING or not self._has_room(module, args, kwargs):
            return
        if is_run_again(module) and not drops_weights(module):
            return
        held = None
        try:
            if not multihead.is_multihead(module):
                held = find_held(huggingface.find_cache(module, args, kwargs))
        except Exception as error:  # noqa: BLE001  (the model itself is to say what is wrong with its call)
            self._unchecked.append(f"{self._names[module]}: {error}")
            return
        trace = trace_of(module)
        self._ongoing.begin(module, trace, _Begun(trace, held))

    def _has_room(self, module: torch.nn.Module, args: Any, kwargs: Any) -> bool:
        try:
            require_room(module, args, kwargs, self._options.memory_bytes)
        except SizeError as error:
            if self._is_ours:
                raise
            self._unchecked.append(f"{self._names[module]}: {error.message}")
            return False
        return True

    def _end(self, module: torch.nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        if module not in self._names:
            return
        ended = self._ongoing.end(module)
        begun: _Begun | None = None if ended is None else ended.extra
        if get_ident() in CHECKING or (begun is None and not is_run_again(module)):
            return
        if result is None:  # it raised
            self._look_at_raising(module, args, kwargs)
            return
        try:
            with self._checking():
                self._layers.append(self._check(module, args, kwargs, result, begun))
        except NonFiniteError as error:
            self._layers.append(self._tell_non_finite(module, error))
            self._caches.forget(module)
        except JubakoError as error:
            self._unchecked.append(f"{self._names[module]}: {error.message}")
            self._caches.forget(module)
        except Exception as error:  # noqa: BLE001  (the model's call is to end as if nobody watched)
            self._unchecked.append(f"{self._names[module]}: checking it raises {type(error).__name__}: {error}")
            self._caches.forget(module)

    @contextmanager
    def _checking(self) -> Iterator[None]:
        """Within it this thread checks, and no other does; modes may be another watch's of the same call."""
        with self._turn:
            try:
                CHECKING.add(get_ident())
                with torch.no_grad(), _disable_current_modes():
                    yield
            finally:
                CHECKING.discard(get_ident())

    def _look_at_raising(self, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        """Whether torch's layer, which raised, does so on all of its paths: another may drop what this one refuses."""
        if not self._is_ours or not is_run_again(module):
            return
        try:
            with self._checking():
                layer = check_multihead(self._names[module], module, args, kwargs, self._options)
        except Exception:  # noqa: BLE001  (what the model raises is told)
            return
        if layer.first_departure is not None:
            self._layers.append(layer)

    def _tell_non_finite(self, module: torch.nn.Module, error: NonFiniteError) -> LayerReport:
        kind = type(module)
        producer = self._surroundings.producer
        return report_non_finite(self._names[module], f"{kind.__module__}.{kind.__qualname__}", error, producer)

    def _check(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, begun: _Begun | None
    ) -> LayerReport:
        name = self._names[module]
        trace = None if begun is None else begun.trace
        if begun is None or is_run_again(module):
            return check_multihead(name, module, args, kwargs, self._options, Made(result, trace))
        if multihead.is_multihead(module):
            arguments, made = multihead.read_arguments(args, kwargs), Made(result, begun.trace)
            with holding_weights(module):
                return report_multihead(
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
        report = report_layer(name, described.kind, call, expected, runs, self._options.tolerance)
        return replace(report, traps=[*report.traps, *find_seen_futures(module, call)])


def _departures(layers: Iterable[LayerReport]) -> list[StepVerdict]:
    return [run.first_departure for layer in layers for run in layer.runs if run.first_departure is not None]


def _call_out_of_training(module: torch.nn.Module, args: Any, kwargs: Any) -> tuple[Any, Trace]:
    trace = trace_of(module)
    with evaluating(module), trace:
        return module(*args, **kwargs), trace
