"""The way in: `check` takes a module, a file of weights, or what a layer's steps gave, and says what came of it.

report = check(torch.nn.MultiheadAttention(512, 8), x, attn_mask=mask)
print(report.describe())
assert report
"""

from __future__ import annotations

import os

from jubako.attention.checking.options import CheckOptions
from jubako.attention.libraries import load
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from typing import Any

    from jubako.attention.checking.judge import Call
    from jubako.attention.checking.report import Report
    from jubako.attention.files.check import FileOptions
    from jubako.attention.observing.check import Captured

__all__ = ["assert_attention_matches", "capture", "check", "check_steps", "check_weights_file"]

_DEFAULT = CheckOptions()


def check(module: Any, *inputs: Any, options: CheckOptions = _DEFAULT, **arguments: Any) -> Report:
    """The report of all attention in a module of torch's that is called with `inputs` and `arguments`.

    The module is torch.nn.MultiheadAttention or one that is called like it (then one input is query, key and value), an
    attention module of the transformers library, or a model with such modules in it. Without inputs, a layer by itself
    is given random ones. All ways of calling torch's layer are gone: both its paths, with weights and without; not in
    training, but for a look at what dropout does if the module is in training. The module stays as it was.

    A path is that of a file of weights: `check_weights_file` says what is checked then.

    InputError for what does not fit together, or has no attention in it; HostError if it would take too much memory.
    """
    _require_options(options)
    if isinstance(module, (str, os.PathLike)):
        if inputs or arguments:
            raise InputError("a file of weights is not called; `check_weights_file` takes files of inputs")
        return check_weights_file(os.fspath(module), options=options)
    report: Report = load("jubako.attention.observing.check").check_module(module, inputs, arguments, options)
    return report


def check_weights_file(path: str, how: FileOptions | None = None, *, options: CheckOptions = _DEFAULT) -> Report:
    """The report of all attention layers in a safetensors file, without torch; `how` names what goes with it.

    A file holds no results. What is checked is that its layers are whole, and that in their own type they can be
    computed within bounds; and more if activations or another file are given.
    """
    _require_options(options)
    home = load("jubako.attention.files.check")
    report: Report = home.check_file(
        path, how or home.FileOptions(load("jubako.attention.files.layers").Told()), options
    )
    return report


def check_steps(values: Mapping[str, Any], call: Call, *, options: CheckOptions = _DEFAULT) -> Report:
    """The report of what some program gave for the steps of a call: arrays by the names of steps, batch first.

    It takes what is there; what is not is not observable. So attention that was computed by any means can be checked.
    """
    _require_options(options)
    home = load("jubako.attention.checking.layers")
    report: Report = home.check_steps(values, call, options)
    return report


def capture(module: Any, options: CheckOptions = _DEFAULT) -> AbstractContextManager[Captured]:
    """Within it, each call of attention in the module is checked; `report()` of what it gives has them all.

    with capture(model) as captured:
        model(**batch)
    print(captured.report().describe())
    """
    _require_options(options)
    captured: AbstractContextManager[Captured] = load("jubako.attention.observing.check").capture_calls(module, options)
    return captured


def assert_attention_matches(module: Any, *inputs: Any, options: CheckOptions = _DEFAULT, **arguments: Any) -> None:
    """For tests: AssertionError, with the whole report, unless `check` of the same finds that all agrees."""
    __tracebackhide__ = True  # pytest then shows where it was called
    report = check(module, *inputs, options=options, **arguments)
    if not report:
        raise AssertionError(report.describe())


def _require_options(options: Any) -> None:
    if not isinstance(options, CheckOptions):
        raise InputError(f"options is a {type(options).__name__}, and must be CheckOptions")
