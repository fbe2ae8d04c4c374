"""What is known of a module that attends, whatever library it is from."""

from __future__ import annotations

import torch

from jubako.attention.checking.precision import precision_of
from jubako.attention.observing.roles import to_array
from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.attention.checking.precision import Precision
    from jubako.attention.description import Array, Settings, Weights

__all__ = ["Described", "array_of", "precision_of_module"]


@record
class Described:
    """A module: its class, its weights, and how it attends."""

    kind: str
    weights: Weights
    settings: Settings
    precision: Precision
    device: torch.device


def array_of(tensor: torch.Tensor | None) -> Array | None:
    """The numbers of a parameter; None where there is none."""
    return None if tensor is None else to_array(tensor)


def precision_of_module(module: torch.nn.Module) -> Precision:
    """The precision of a module's parameters. InputError where they have different types."""
    types = {str(parameter.dtype).removeprefix("torch.") for parameter in module.parameters()}
    if len(types) != 1:
        raise InputError(
            f"the parameters of {type(module).__name__} are of more than one type: {', '.join(sorted(types))}"
        )
    return precision_of(types.pop())
