"""What is known of a module that attends, whatever library it is from."""

from __future__ import annotations

import torch

from jubako.attention.checking.precision import precision_of
from jubako.attention.checking.rounding import round_to
from jubako.attention.description import Weights
from jubako.attention.observing.roles import to_array
from jubako.errors import InputError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from jubako.attention.checking.precision import Precision
    from jubako.attention.description import Array, Settings

__all__ = ["Described", "array_of", "as_computed", "get_weight", "place_of", "precision_of_weights"]


@record
class Described:
    """A module: its class, its weights, and how it attends."""

    kind: str
    weights: Weights
    settings: Settings
    precision: Precision  # of what it computes in
    device: torch.device
    under_autocast: bool = False  # then what it is given is rounded to that type, too

    def take(self, tensor: torch.Tensor, label: str) -> Array:
        """The numbers of an input, as they are computed with. InputError for one of another type or device."""
        if tensor.device != self.device:
            raise InputError(f"the {label} is on {tensor.device}, and the layer's weights are on {self.device}")
        own = str(tensor.dtype).removeprefix("torch.")
        if self.under_autocast and tensor.is_floating_point() and tensor.dtype != torch.float64:
            return round_to(to_array(tensor), self.precision.name)
        if own != self.precision.name:
            raise InputError(f"the {label} is of type {own}, and the layer's weights are {self.precision.name}")
        return to_array(tensor)


def array_of(tensor: torch.Tensor | None) -> Array | None:
    """The numbers of a parameter; None where there is none."""
    return None if tensor is None else to_array(tensor)


def get_weight(holder: Any, name: str, label: str) -> torch.Tensor:
    """A weight of a module, however it is kept. InputError if what has that name is no tensor."""
    weight = getattr(holder, name, None)
    if not isinstance(weight, torch.Tensor):
        kind = f"{type(holder).__module__}.{type(holder).__qualname__}"
        raise InputError(f"{label} is a {kind}, which has no tensor called {name}")
    return weight


def precision_of_weights(module: torch.nn.Module, weights: Sequence[torch.Tensor]) -> Precision:
    """The precision of a module's weights. InputError where they have different types."""
    types = {str(weight.dtype).removeprefix("torch.") for weight in weights}
    if len(types) != 1:
        raise InputError(
            f"the weights of {type(module).__name__} are of more than one type: {', '.join(sorted(types))}"
        )
    return precision_of(types.pop())


def place_of(module: torch.nn.Module, weights: Sequence[torch.Tensor]) -> torch.device:
    """The device that a module's weights are on. InputError where that is more than one, or meta, without numbers."""
    places = sorted({str(weight.device) for weight in weights})
    if "meta" in places:
        raise InputError(f"the weights of {type(module).__name__} are on meta, and have no numbers")
    if len(places) != 1:
        raise InputError(f"the weights of {type(module).__name__} are on more than one device: {', '.join(places)}")
    return weights[0].device


def as_computed(described: Described) -> Described:
    """The same as it is computed with now: under autocast, with weights rounded to the type that this casts to.

    Double precision is left alone by autocast.
    """
    kind = described.device.type
    if described.precision.name == "float64" or not torch.amp.is_autocast_available(kind):
        return described
    if not torch.is_autocast_enabled(kind):
        return described
    name = str(torch.get_autocast_dtype(kind)).removeprefix("torch.")
    weights = described.weights.named()  # norms are not products: autocast leaves theirs as they are
    rounded = {part: array if "norm" in part else round_to(array, name) for part, array in weights.items()}
    return replace(described, weights=Weights(**rounded), precision=precision_of(name), under_autocast=True)
