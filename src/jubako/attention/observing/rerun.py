"""Torch's layer, and what is called like it, checked by being run again on the inputs of a call, all its ways."""

from __future__ import annotations

from typing import Any

import torch

from jubako.attention.checking.judge import expect
from jubako.attention.checking.layers import report_layer
from jubako.attention.checking.verdicts import LayerReport
from jubako.attention.description import find_bad_numbers
from jubako.attention.observing import multihead
from jubako.attention.observing.described import as_computed
from jubako.attention.observing.holding import holding_weights
from jubako.attention.observing.hooks import Hook
from jubako.attention.observing.ways import Made, Subject, observe_call, renew_weights, run_all_ways

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from jubako.attention.checking.judge import Observed
    from jubako.attention.checking.options import CheckOptions
    from jubako.attention.observing.multihead import Arguments

__all__ = ["check_multihead", "is_run_again", "report_multihead"]

_MAKING_WEIGHTS = "torch.nn.utils."  # pruning, and the older weight and spectral norms: hooks that leave inputs alone


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

        return report_multihead(name, module, arguments, options, observe)


def report_multihead(
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


def is_run_again(module: torch.nn.Module) -> bool:
    """True for what can be run all its ways, because it takes all that torch's layer does.

    Not with hooks of somebody's own before its call: they would change once more what they have changed already.
    """
    if not multihead.is_multihead(module) or not multihead.is_called_alike(module):
        return False
    hooks = module._forward_pre_hooks.values()
    return all(isinstance(hook, Hook) or type(hook).__module__.startswith(_MAKING_WEIGHTS) for hook in hooks)
