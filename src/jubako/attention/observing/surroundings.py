"""What happens in a model around the attention that is known: who gave NaN or inf first, and attention unknown.

Hooks say which modules are being called; a mode below them sees the operations that happen outside of layers that are
known. An operation that is fused attention, or a product that takes what a softmax made of another product, is
attention of somebody's own: it is listed by the module it happens in, since nobody can say whether it is right.
"""

from __future__ import annotations

from threading import get_ident
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.weak import WeakTensorKeyDictionary

from jubako.attention.observing.compiling import is_compiled
from jubako.attention.observing.graph import PRODUCTS
from jubako.attention.observing.holding import find_weights
from jubako.attention.observing.ongoing import Ongoing
from jubako.attention.observing.trace import decompose, storage_of, tensors_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

__all__ = ["CHECKING", "Surroundings", "describe_bad"]

_FUSED = ("_scaled_dot_product", "scaled_dot_product_attention", "_flash_attention", "_efficient_attention", "flex_att")
_SOFTMAX = {"_softmax", "_safe_softmax", "softmax", "exp", "exp_", "exp2", "exp2_"}  # or what somebody writes one with
_BATCHED = {"bmm", "baddbmm", "matmul"}
_MIXING = {*PRODUCTS, "convolution", "embedding"}  # what comes out of them is something new

CHECKING: set[int] = set()  # the threads that are checking a call now: what they call is no call of a model's


class Surroundings:
    """Follows the calls of a model's modules. `producer` says what gave NaN or inf first, `unknown` which attend."""

    def __init__(self, model: torch.nn.Module, known: Collection[torch.nn.Module]) -> None:
        self.producer = ""
        self.unknown: dict[str, str] = {}  # by the name of the module: how it attends
        self.gives_bad = False  # what the model itself gave back holds NaN or inf
        self._model = model
        self._known = set(known)
        self._is_spotting = not any(map(is_compiled, known))  # or these would run as they are written
        self._names = {module: name or type(module).__name__ for name, module in model.named_modules()}
        self._ongoing = Ongoing()

    def find_modules(self) -> list[torch.nn.Module]:
        """Those to be followed: not what is inside of attention that is known, which is looked at by itself.

        Nor encoder layers of torch's that have none: they take their fast path where no module in them has a hook.
        """
        inside = {each for known in self._known for each in known.modules()} - self._known
        for module in self._names:
            if isinstance(module, torch.nn.TransformerEncoderLayer) and self._known.isdisjoint(module.modules()):
                inside.update(module.modules())
        return [
            module for module in self._names if not (module in inside or isinstance(module, torch.jit.ScriptModule))
        ]

    def begin(self, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        """To be called before each call of a module."""
        if get_ident() in CHECKING:
            return
        active = self._ongoing.find_modules()
        if not self.producer and (bad := describe_bad((args, kwargs))):
            name = self._names[module]
            self.producer = (
                f"an operation of {self._names[active[-1]]} itself, before it called {name}"
                if active
                else f"what {name} is called with, which holds {bad}"
            )
        is_outermost = not active and module not in self._known and self._is_spotting
        self._ongoing.begin(module, _Spotter(self._spot, find_weights(self._model)) if is_outermost else None)

    def end(self, module: torch.nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        """To be called after each, also where it raised."""
        if get_ident() in CHECKING:
            return
        if self._ongoing.end(module) is None:
            return
        bad = describe_bad(result)
        if bad and not self.producer:
            self.producer = f"{self._names[module]} ({type(module).__name__}{_describe_weights(module)})"
        if bad and module is self._model:
            self.gives_bad = True

    def close(self) -> None:
        """To be called at last: an interrupt ends calls of which no hook sees the end."""
        self._ongoing.close()

    def _spot(self, how: str) -> None:
        active = self._ongoing.find_modules()
        if active and self._known.isdisjoint(active):
            self.unknown.setdefault(self._names[active[-1]], how)


class _Spotter(TorchDispatchMode):  # type: ignore[misc, unused-ignore]
    """Sees all operations, and says what of them is attention. It keeps nothing of them alive."""

    def __init__(self, spot: Callable[[str], None], weights: Collection[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._spot = spot
        self._constants = {storage_of(each) for each in weights}
        self._scores = WeakTensorKeyDictionary()  # a product, or what became of one
        self._weights = WeakTensorKeyDictionary()  # a softmax of that

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Called by torch for each operation."""
        named = kwargs or {}
        if (result := decompose(self, func, args, named)) is not NotImplemented:
            return result
        result = func(*args, **named)
        self._look(func.overloadpacket.__name__, list(tensors_in((args, named))), list(tensors_in(result)))
        return result

    def _look(self, op: str, inputs: list[torch.Tensor], results: list[torch.Tensor]) -> None:
        if op.startswith(_FUSED) and "backward" not in op:
            self._spot("scaled_dot_product_attention")
            return
        is_weighted = any(each in self._weights for each in inputs)
        if op in _BATCHED and is_weighted:
            self._spot("a product, a softmax, and another product")
        if op in _MIXING:
            is_product = op in _BATCHED or (op in PRODUCTS and not self._takes_weight(inputs))
            for each in results if is_product else ():
                self._scores[each] = True
        elif is_weighted:
            for each in results:
                self._weights[each] = True
        elif any(each in self._scores for each in inputs):
            for each in results:
                (self._weights if op in _SOFTMAX else self._scores)[each] = True

    def _takes_weight(self, inputs: list[torch.Tensor]) -> bool:
        return any(storage_of(each) in self._constants for each in inputs)


def _describe_weights(module: torch.nn.Module) -> str:
    """ ", whose weight holds nan", if one does."""
    held = [(name, describe_bad(weight)) for name, weight in module.named_parameters(recurse=False)]
    found = [f"whose {name} holds {bad}" for name, bad in held if bad]
    return f", {', '.join(found)}" if found else ""


def describe_bad(value: Any) -> str:
    """ "nan" or "inf", whatever a value holds of it; "" for neither. -inf is none: masks are made of it."""
    with _disable_current_modes(), torch.no_grad():
        for tensor in _real_tensors(value):
            try:
                if torch.isfinite(tensor).all():
                    continue
                if torch.isnan(tensor).any():
                    return "nan"
                if torch.isposinf(tensor).any():
                    return "inf"
            except (RuntimeError, NotImplementedError, TypeError):  # one that shows no numbers
                continue
    return ""


def _real_tensors(value: Any) -> Iterator[torch.Tensor]:
    yield from (each for each in tensors_in(value) if each.is_floating_point() and not each.is_meta)
