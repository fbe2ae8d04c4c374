"""torch.nn.MultiheadAttention, and what is called like it, run all its ways.

It has two paths, a slow one of plain operations and a fast one that is a single operation, and each is taken with and
without weights. They treat masks differently, so all of them are run, on the same inputs; in training, that as well.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch

from jubako.attention.checking.judge import Observed
from jubako.attention.observing.compiling import as_compiled, as_written, is_compiled
from jubako.attention.observing.holding import find_weights, restoring_buffers
from jubako.attention.observing.modes import evaluating, fast_path
from jubako.attention.observing.multihead import Arguments
from jubako.attention.observing.roles import Sizes, find_steps, to_array
from jubako.attention.observing.weighted import require_type_of_products, trace_of
from jubako.attention.reference import concatenate
from jubako.errors import InputError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from jubako.attention.description import Array
    from jubako.attention.observing.described import Described
    from jubako.attention.observing.trace import Trace

__all__ = [
    "NOT_SEEN",
    "Subject",
    "find_dropped_steps",
    "observe_call",
    "renew_weights",
    "run_all_ways",
]

NOT_SEEN = "the context is not compared: nobody saw which weights were left out; what follows from it is"

_FAST = "_native_multi_head_attention"
_TRAINING = "training"
_WITH_DROPOUT = "training, with dropout"
_KNOWN = ("Need attn_mask if specifying the is_causal hint",)  # what torch refuses on some ways of calling it
_WAYS: tuple[tuple[str, dict[str, bool]], ...] = (
    ("need_weights=True", {"need_weights": True}),
    ("need_weights=True, per head", {"need_weights": True, "average_attn_weights": False}),
    ("need_weights=False", {"need_weights": False}),
)


@record
class Made:
    """A call that somebody made: what it gave back, and its trace, if there is one."""

    result: Any
    trace: Trace | None = None


@record
class Subject:
    """A layer, what it is called with, and what the reference gives for that."""

    module: torch.nn.Module
    described: Described
    arguments: Arguments
    sizes: Sizes
    reference: Mapping[str, Array]
    seed: int  # of dropout


def renew_weights(module: torch.nn.Module, arguments: Arguments) -> None:
    """Calls a module that has hooks before its call once: some of these make its weights, which were not made yet."""
    if not any(each._forward_pre_hooks for each in module.modules()):
        return
    try:
        with evaluating(module), torch.no_grad():
            _call(module, arguments, _WAYS[0][1])
    except Exception:  # noqa: BLE001  (the runs will tell)
        return


def observe_call(subject: Subject, made: Made, runs: Sequence[Observed] = ()) -> Observed:
    """What a call gave back that somebody else made, and showed if it was traced; `runs` are those made since."""
    module, name, result, trace = subject.module, "as called", made.result, made.trace
    output, weights = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if trace is not None:
        require_type_of_products(trace, subject.described)
        if module.training:
            return _observe_dropout(name, subject, trace, (output, weights))
    elif module.training and not any(run.name.startswith(_TRAINING) and run.values and not run.dropout for run in runs):
        return Observed(name, notes=["in training, with dropout: what this call gave back is not compared"])
    values = {} if trace is None else find_steps(trace, subject.sizes, subject.reference, is_training=False)
    _take_result(values, output, weights, subject)
    return Observed(name, values, is_result=trace is None)


def drops_weights(module: torch.nn.Module) -> bool:
    """True for a layer that leaves out weights by chance: it has to be looked at in the very call."""
    return module.training and _rate_of(module) > 0


def run_all_ways(subject: Subject) -> list[Observed]:
    """What the layer shows of its steps on each path, with and without weights; in training, what it does there."""
    module = subject.module
    runs: list[Observed] = []
    if module.training:
        runs += [_run_training(subject, need_weights=need_weights) for need_weights in (True, False)]
    with evaluating(module):
        slow = [_run(subject, words, how, fast=False)[0] for words, how in _WAYS]
        fast = list(_run_fast(subject, slow))
        compiled = [_run_compiled(subject, words, how) for words, how in _WAYS] if is_compiled(module) else []
    has_paths = bool(fast) or type(module).forward is torch.nn.MultiheadAttention.forward
    runs += [replace(run, name=f"slow path, {run.name}") if has_paths else run for run in slow]
    runs += [*fast, *compiled]
    if all(run.refused for run in runs):
        return runs
    return [_break(run) if run.refused and not any(known in run.refused for known in _KNOWN) else run for run in runs]


def _break(run: Observed) -> Observed:
    """A way of calling that raises where others, on the same inputs, do not."""
    return replace(run, refused="", broken=f"raises {run.refused}; and another way of calling it does not")


def _run_compiled(subject: Subject, words: str, how: dict[str, bool]) -> Observed:
    """What a compiled layer gives: nothing is recorded of it, as then it would run as it is written."""
    name = f"compiled, {words}"
    try:
        with torch.no_grad(), as_compiled():
            output, weights = _call(subject.module, subject.arguments, how)
    except Exception as error:  # noqa: BLE001  (the module's own code)
        return Observed(name, refused=_describe(error))
    values: dict[str, Array] = {}
    _take_result(values, output, weights, subject)
    return Observed(name, values, is_result=True)


def _run_fast(
    subject: Subject,
    slow: Sequence[Observed],
) -> Iterator[Observed]:
    """The runs on torch's fast path, if that is taken, or raises something else than the slow one."""
    for (words, how), other in zip(_WAYS, slow, strict=True):
        run, took_fast = _run(subject, f"fast path, {words}", how, fast=True)
        if took_fast or run.refused != other.refused:
            yield run
        elif not run.refused:
            return


def _run_training(subject: Subject, *, need_weights: bool) -> Observed:
    """The call in training. Where something is left out by chance, it is judged from what was left out."""
    module, rate = subject.module, _rate_of(subject.module)
    how = {"need_weights": need_weights, "average_attn_weights": False}
    name = f"{_WITH_DROPOUT if rate else _TRAINING}{'' if need_weights else ', need_weights=False'}"
    trace = trace_of(module)
    held = [weight.detach().clone() for weight in find_weights(module)]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), restoring_buffers(module), _written(module):
            torch.manual_seed(subject.seed)
            with trace:
                output, returned = _call(subject.module, subject.arguments, how)
            changed = not _are_same(held, find_weights(module))
            again = output if rate else _call(subject.module, subject.arguments, how)[0]  # with other random numbers
    except Exception as error:  # noqa: BLE001  (the module's own code)
        return Observed(name, refused=_describe(error))
    require_type_of_products(trace, subject.described)
    if changed:
        return Observed(name, notes=["its weights are others at each call in training: nothing is compared"])
    if not torch.equal(again.nan_to_num(), output.nan_to_num()):
        return Observed(name, notes=["it leaves something out by chance, nobody knows how much: nothing is compared"])
    return _observe_dropout(name, subject, trace, (output, returned))


def _observe_dropout(name: str, subject: Subject, trace: Trace, result: tuple[Any, Any]) -> Observed:
    """What a call in training showed and gave back."""
    module, rate, (output, returned) = subject.module, _rate_of(subject.module), result
    values: dict[str, Array] = {}
    _take_result(values, output, None if rate else returned, subject)
    find = find_dropped_steps if rate else find_steps
    values = {**find(trace, subject.sizes, subject.reference, is_training=rate > 0), **values}
    if not rate:
        return Observed(name, values)
    notes = [] if "weights" in values else [NOT_SEEN]
    own = getattr(module, "dropout", None)
    if any(isinstance(each, torch.nn.Dropout) and each.p > 0 and each is not own for each in module.modules()):
        del values["output"]
        notes.append("the output is not compared: something is left out of it")
    if isinstance(returned, torch.Tensor) and returned.numel() == subject.sizes.maps:
        values["returned_weights"] = to_array(returned).reshape(subject.reference["weights"].shape)
    return Observed(name, values, notes=notes, dropout=rate)


def _are_same(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> bool:
    return len(before) == len(after) and all(map(torch.equal, before, after))


def find_dropped_steps(
    trace: Trace, sizes: Sizes, reference: Mapping[str, Array], *, is_training: bool
) -> dict[str, Array]:
    """The steps of a call with dropout. How they are laid out shows in what follows from the weights that are left."""
    values = find_steps(trace, sizes, reference, is_training=is_training)
    dropped = values.get("dropped_weights", values.get("weights"))
    context = values.get("context") if dropped is None else dropped @ reference["value_heads"]
    if context is None:
        return values
    dropped_reference = {**reference, "context": context, "concatenated": concatenate(context)}
    return find_steps(trace, sizes, dropped_reference, is_training=is_training)


def _rate_of(module: torch.nn.Module) -> float:
    """The share of weights that a layer leaves out in training, if it says so as torch's does."""
    rate = getattr(module, "dropout", 0.0)
    rate = rate.p if isinstance(rate, torch.nn.Dropout) else rate
    return float(rate) if isinstance(rate, (int, float)) else 0.0


def _run(
    subject: Subject,
    name: str,
    how: dict[str, bool],
    *,
    fast: bool,
) -> tuple[Observed, bool]:
    """What one way shows, and whether torch took its fast path."""
    trace = trace_of(subject.module)
    try:
        with torch.no_grad(), fast_path(enabled=fast), _written(subject.module), trace:
            output, weights = _call(subject.module, subject.arguments, how)
    except Exception as error:  # noqa: BLE001  (the module's own code)
        return Observed(name, refused=_describe(error)), False
    require_type_of_products(trace, subject.described)
    took_fast = any(node.op == _FAST for node in trace.nodes)
    is_whole = how == _WAYS[0][1] or (how["need_weights"] is False)
    values = find_steps(trace, subject.sizes, subject.reference, is_training=False) if is_whole else {}
    _take_result(values, output, weights, subject)
    return Observed(name, values, is_result=took_fast or not is_whole), took_fast


def _written(module: torch.nn.Module) -> AbstractContextManager[None]:
    return as_written() if is_compiled(module) else nullcontext()


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _call(module: torch.nn.Module, arguments: Arguments, how: dict[str, bool]) -> tuple[Any, Any]:
    result = module(
        arguments.query,
        arguments.key,
        arguments.value,
        key_padding_mask=arguments.key_padding_mask,
        attn_mask=arguments.attn_mask,
        is_causal=arguments.is_causal,
        **how,
    )
    return (result[0], result[1]) if isinstance(result, tuple) else (result, None)


def _take_result(values: dict[str, Array], output: Any, weights: torch.Tensor | None, subject: Subject) -> None:
    """What the call gave back is what counts, whatever the trace has. InputError if that is no tensor."""
    module, arguments, sizes = subject.module, subject.arguments, subject.sizes
    if not isinstance(output, torch.Tensor):
        raise InputError(f"{type(module).__name__} gives a {type(output).__name__}, and not a tensor")
    array = to_array(output)
    if arguments.query.ndim == 2:
        array = array[None]
    elif not getattr(module, "batch_first", False):
        array = np.swapaxes(array, 0, 1)
    values["output"] = array
    if not isinstance(weights, torch.Tensor):
        return
    given = to_array(weights)
    per_head = (sizes.batch, sizes.heads, sizes.length, sizes.keys)
    if given.ndim + (arguments.query.ndim == 2) == 4:
        values["weights"] = given.reshape(per_head) if given.size == sizes.maps else given
    else:
        values["averaged_weights"] = given[None] if arguments.query.ndim == 2 else given
