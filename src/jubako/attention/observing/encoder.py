"""Whole encoder layers of torch's: their fast path is one operation, which their attention module never sees.

Each layer, or stack of them, is called by itself with what the model calls it with, on both paths, and once more as a
copy in double precision. The fast path may be twice as far from that as the slow one, and a few roundings. What either
makes of padded rows is nobody's concern. A model that gives a tensor is compared as a whole, too, if nothing is padded.
"""

from __future__ import annotations

import copy
import inspect
import warnings

import numpy as np
import torch

from jubako.attention.checking.compare import compare
from jubako.attention.checking.precision import precision_of
from jubako.attention.checking.proportional import FACTOR
from jubako.attention.checking.verdicts import LayerReport, RunReport, StepVerdict, Trap
from jubako.attention.observing.multihead import fast_path
from jubako.attention.observing.roles import to_array
from jubako.attention.observing.trace import Trace
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from jubako.attention.checking.verdicts import Verdict

__all__ = ["compare_whole_layers"]

_WHOLE = "_transformer_encoder_layer_fwd"
_ROUNDINGS = 8.0  # in units of the largest number that comes out
_ROUNDINGS_IN_DOUBLE = 64.0  # where the slow path is what the fast one is compared with


@record
class _Called:
    name: str
    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def label(self) -> str:
        return f"whole layers of {self.name}" if self.name else "whole layers"

    @property
    def kind(self) -> str:
        return f"{type(self.module).__module__}.{type(self.module).__qualname__}"

    @property
    def padding(self) -> torch.Tensor | None:
        """The padding mask, however it was given: (B, L)."""
        try:
            bound = inspect.signature(self.module.forward).bind(*self.args, **self.kwargs)
        except (TypeError, ValueError):
            return None
        mask = bound.arguments.get("src_key_padding_mask")
        return mask if isinstance(mask, torch.Tensor) else None


def compare_whole_layers(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[LayerReport]:
    """For each encoder layer that takes the fast path: its result against that of the slow one."""
    whole = _Called("", model, args, kwargs)
    called = _find_calls(whole)
    for each in called:
        yield from _compare(each)
    if called and model not in [each.module for each in called] and all(each.padding is None for each in called):
        yield from _compare(whole)


def _find_calls(whole: _Called) -> list[_Called]:
    """The first call of each encoder, or encoder layer that is in none, while the model is called."""
    outermost: dict[str, torch.nn.Module] = {}
    for name, module in whole.module.named_modules():
        is_inside = any(name.startswith(f"{outer}." if outer else "") for outer in outermost)
        if isinstance(module, (torch.nn.TransformerEncoder, torch.nn.TransformerEncoderLayer)) and not is_inside:
            outermost[name] = module
    called: dict[str, _Called] = {}
    handles = []
    for name, module in outermost.items():

        def keep(module: torch.nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            called.setdefault(name, _Called(name, module, args, kwargs))

        handles.append(module.register_forward_pre_hook(keep, with_kwargs=True))
    try:
        if handles:
            _run(whole, fast=False)
    finally:
        for handle in handles:
            handle.remove()
    return list(called.values())


def _run(called: _Called, *, fast: bool) -> tuple[Any, bool]:
    """What comes back, and whether the fast path of a whole layer was taken."""
    trace = Trace()
    with warnings.catch_warnings(), torch.no_grad(), fast_path(enabled=fast), trace:
        warnings.filterwarnings("ignore", "The PyTorch API of nested tensors")  # torch's own, of what it does itself
        result = called.module(*called.args, **called.kwargs)
    return result, any(node.op == _WHOLE for node in trace.nodes)


def _compare(called: _Called) -> Iterator[LayerReport]:
    slow, _ = _run(called, fast=False)
    try:
        fast, took_fast = _run(called, fast=True)
    except Exception as error:  # noqa: BLE001  (the module's own code)
        broken = f"with torch's fast path allowed it raises {type(error).__name__}: {error}; and without it does not"
        yield LayerReport(called.label, called.kind, {}, broken=broken)
        return
    if not took_fast or not all(isinstance(each, torch.Tensor) and each.ndim == 3 for each in (fast, slow)):
        return
    exact = _in_double(called)
    padding = called.padding
    if exact is None:
        return
    precision = precision_of(str(slow.dtype).removeprefix("torch."))
    place = tuple(slice(size) for size in fast.shape)  # the fast path may cut off what all are padded with
    arrays = [to_array(fast), to_array(slow)[place], to_array(exact)[place]]
    counts = np.isfinite(arrays[2])  # a row that sees nothing is told of where its attention is checked
    if padding is not None:
        counts = counts & (to_array(padding)[tuple(slice(size) for size in fast.shape[:2])] == 0)[..., None]
    seen, plain, right = (np.where(counts, array, 0.0) for array in arrays)
    roundings = _ROUNDINGS_IN_DOUBLE if precision.name == "float64" else _ROUNDINGS
    floor = roundings * precision.unit * max(float(np.abs(right).max(initial=0.0)), 1.0)
    allowed = 2 * float(np.nan_to_num(np.abs(plain - right)).max(initial=0.0)) + floor
    compared = compare(seen, right, np.array(allowed / FACTOR), precision)
    agrees = compared.holds
    verdict: Verdict = "within_bound" if agrees else "out_of_bound" if compared.is_finite else "non_finite"
    step = StepVerdict(
        "output", ("B", "L", "E"), seen.shape, verdict, None, compared, None, "" if agrees else "producer"
    )
    trap = Trap(
        "paths_disagree", "the whole layer's fast path gives something else than its slow path", is_failure=True
    )
    yield LayerReport(
        called.label,
        called.kind,
        {"dtype": precision.name},
        [RunReport("fast path against slow path", [step])],
        () if agrees else (trap,),
    )


def _in_double(called: _Called) -> torch.Tensor | None:
    """What a copy of the module gives in double precision, on the slow path; None if it cannot be computed in that."""

    def widen(value: Any) -> Any:
        is_real = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.to(torch.float64) if is_real else value

    args = tuple(widen(value) for value in called.args)
    kwargs = {name: widen(value) for name, value in called.kwargs.items()}
    try:
        module = copy.deepcopy(called.module).to(torch.float64)
        result, _ = _run(_Called(called.name, module, args, kwargs), fast=False)
    except Exception:  # noqa: BLE001  (the module's own code, that may know of one type only)
        return None
    return result if isinstance(result, torch.Tensor) else None
