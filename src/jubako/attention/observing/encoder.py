"""Whole encoder layers of torch's: their fast path is one operation, which their attention module never sees.

Each layer, or stack of them, is called by itself with what the model calls it with, on both paths, and once more as a
copy in double precision. The fast path may be twice as far from that as the slow one, and a few roundings. What either
makes of padded rows is nobody's concern. A model that gives a tensor is compared as a whole, too, if nothing is padded.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from jubako.attention.checking.compare import compare
from jubako.attention.checking.precision import precision_of
from jubako.attention.checking.proportional import FACTOR
from jubako.attention.checking.verdicts import LayerReport, RunReport, StepVerdict, Trap
from jubako.attention.free_memory import SizeError, require_free
from jubako.attention.observing.calling import ModelError, describe_error, telling_errors
from jubako.attention.observing.modes import fast_path
from jubako.attention.observing.roles import to_array
from jubako.attention.observing.surroundings import describe_bad
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.attention.checking.compare import Comparison
    from jubako.attention.checking.precision import Precision
    from jubako.attention.description import Array

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
        bound = self.bind()
        mask = None if bound is None else bound.arguments.get("src_key_padding_mask")
        return mask if isinstance(mask, torch.Tensor) else None

    def bind(self) -> inspect.BoundArguments | None:
        """Its arguments by name; None if they do not fit."""
        try:
            return inspect.signature(self.module.forward).bind(*self.args, **self.kwargs)
        except (TypeError, ValueError):
            return None

    def without_hint(self) -> _Called | None:
        """The same call without its `is_causal`; None if it has none, or a mask beside it."""
        bound = self.bind()
        if bound is None or not bound.arguments.get("is_causal"):
            return None
        if any(bound.arguments.get(name) is not None for name in ("mask", "src_mask")):
            return None
        del bound.arguments["is_causal"]
        return _Called(self.name, self.module, bound.args, bound.kwargs)


class _Ops(TorchDispatchMode):  # type: ignore[misc, no-untyped-call, unused-ignore]
    """Remembers whether the operation of a whole layer was among those performed, and keeps nothing of any."""

    has_whole = False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Called by torch for each operation."""
        self.has_whole |= func.overloadpacket.__name__ == _WHOLE
        return func(*args, **(kwargs or {}))


def compare_whole_layers(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], memory_bytes: int | None = None
) -> tuple[list[LayerReport], list[str]]:
    """For each encoder layer that takes the fast path, its result against that of the slow one; what was not compared.

    What raises on both paths is in neither: calling the model says so.
    """
    whole = _Called("", model, args, kwargs)
    called = _find_calls(whole)
    if called and model not in [each.module for each in called] and all(each.padding is None for each in called):
        called = [*called, whole]
    layers: list[LayerReport] = []
    unchecked: list[str] = []
    for each in called:
        for found in _compare(each, memory_bytes):
            if isinstance(found, str):
                unchecked.append(f"{each.label}: {found}")
            else:
                layers.append(found)
    return layers, unchecked


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
    except ModelError:
        pass  # what was called until then is known
    finally:
        for handle in handles:
            handle.remove()
    return list(called.values())


def _run(called: _Called, *, fast: bool) -> tuple[Any, bool]:
    """What comes back, and whether the fast path of a whole layer was taken. ModelError if it raises."""
    ops = _Ops()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings(), torch.no_grad(), fast_path(enabled=fast), telling_errors(), ops:
        warnings.filterwarnings("ignore", "The PyTorch API of nested tensors")  # torch's own, of what it does itself
        result = called.module(*called.args, **called.kwargs)
    return result, ops.has_whole


def _compare(called: _Called, memory_bytes: int | None) -> Iterator[LayerReport | str]:
    """A report, or why there is none, or nothing where there is but one path."""
    slow = None
    try:
        slow, _ = _run(called, fast=False)
    except ModelError as error:
        yield from _compare_without_slow(called, error, memory_bytes)
        return
    try:
        fast, took_fast = _run(called, fast=True)
    except ModelError as error:
        broken = f"with torch's fast path allowed it raises {describe_error(error.error)}; and without it does not"
        yield LayerReport(called.label, called.kind, {}, broken=broken)
        return
    if not took_fast or not all(isinstance(each, torch.Tensor) and each.ndim == 3 for each in (fast, slow)):
        return
    exact = _in_double(called, memory_bytes)
    if isinstance(exact, str):
        yield exact
        return
    precision = precision_of(str(slow.dtype).removeprefix("torch."))
    step, is_alike = _judge(called, (fast, slow, exact), precision)
    trap = Trap(
        "paths_disagree", "the whole layer's fast path gives something else than its slow path", is_failure=True
    )
    run = RunReport("fast path against slow path", [step])
    yield LayerReport(called.label, called.kind, {"dtype": precision.name}, [run], () if is_alike else (trap,))


def _compare_without_slow(called: _Called, error: ModelError, memory_bytes: int | None) -> Iterator[LayerReport | str]:
    """Where the slow path raises, that the fast one does not is a failure: it drops a hint that the other refuses."""
    try:
        fast, took_fast = _run(called, fast=True)
    except ModelError:
        return
    if not took_fast:
        return
    traps = []
    without = called.without_hint()
    exact = "" if without is None else _in_double(without, memory_bytes)
    if without is not None and isinstance(fast, torch.Tensor) and isinstance(exact, torch.Tensor):
        plain, _ = _run(without, fast=False)
        step, _ = _judge(without, (fast, plain, exact), precision_of(str(fast.dtype).removeprefix("torch.")))
        if step.verdict == "within_bound":
            said = "is_causal was given and dropped: every row sees the keys after it (fast path of the whole layer)"
            traps = [Trap("causal_hint_dropped", said, is_failure=True)]
    broken = f"without torch's fast path it raises {describe_error(error.error)}; and with that it does not"
    yield LayerReport(called.label, called.kind, {}, [], traps, broken=broken)


def _judge(
    called: _Called, results: tuple[torch.Tensor, torch.Tensor, torch.Tensor], precision: Precision
) -> tuple[StepVerdict, bool]:
    """The verdict on the fast path's output, from (fast, slow, exact); and whether the slow one gives the like."""
    shape = tuple(results[0].shape)
    place = tuple(slice(size) for size in shape)  # the fast path may cut off what all are padded with
    arrays = [to_array(each)[place] for each in results]
    counts = np.ones(shape[:2], bool)
    if called.padding is not None:
        counts = to_array(called.padding)[place[:2]] == 0
    seen, plain, right = (np.where(counts[..., None], array, 0.0) for array in arrays)
    compared = _compare_numbers(seen, plain, right, precision)
    if not seen.size:
        return StepVerdict("output", ("B", "L", "E"), shape, "nothing_to_compare", None, compared), True
    if np.isfinite(seen).all() and np.isfinite(right).all():
        verdict: Any = "within_bound" if compared.holds else "out_of_bound"
        origin: Any = "" if compared.holds else "producer"
        return StepVerdict("output", ("B", "L", "E"), shape, verdict, None, compared, None, origin), compared.holds
    came_in = describe_bad((called.args, called.kwargs, list(called.module.parameters())))
    origin = "propagated" if came_in else "producer"
    is_alike = np.array_equal(np.isfinite(seen), np.isfinite(plain))
    return StepVerdict("output", ("B", "L", "E"), shape, "non_finite", None, compared, None, origin), is_alike


def _compare_numbers(seen: Array, plain: Array, right: Array, precision: Precision) -> Comparison:
    roundings = _ROUNDINGS_IN_DOUBLE if precision.name == "float64" else _ROUNDINGS
    largest = float(np.abs(right[np.isfinite(right)]).max(initial=0.0))
    with np.errstate(invalid="ignore"):
        apart = np.abs(plain - right)
    allowed = 2 * float(apart[np.isfinite(apart)].max(initial=0.0)) + roundings * precision.unit * max(largest, 1.0)
    return compare(seen, right, np.array(allowed / FACTOR), precision)


def _in_double(called: _Called, memory_bytes: int | None) -> torch.Tensor | str:
    """What a copy of the module gives in double precision, on the slow path; or why it is not computed in that."""
    needed = 16 * sum(each.numel() for each in called.module.parameters())  # the copy, and what becomes of it
    try:
        require_free(needed, memory_bytes, "a copy in double precision takes")
    except SizeError as error:
        return f"its fast path is not compared: {error.message}"

    def widen(value: Any) -> Any:
        is_real = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.to(torch.float64) if is_real else value

    args = tuple(widen(value) for value in called.args)
    kwargs = {name: widen(value) for name, value in called.kwargs.items()}
    try:
        module = copy.deepcopy(called.module).to(torch.float64)
        result, _ = _run(_Called(called.name, module, args, kwargs), fast=False)
    except Exception as error:  # noqa: BLE001  (the module's own code, that may know of one type only)
        return f"its fast path is not compared: a copy of it in double precision fails: {describe_error(error)}"
    if not isinstance(result, torch.Tensor):
        return f"its fast path is not compared: in double precision it gives a {type(result).__name__}"
    return result
