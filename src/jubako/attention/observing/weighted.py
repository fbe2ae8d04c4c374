"""Traces of a module that know its weights, and what they show of the type it computes in."""

from __future__ import annotations

import torch

from jubako.attention.observing.graph import PRODUCTS, operands
from jubako.attention.observing.holding import find_weights
from jubako.attention.observing.trace import Trace
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.attention.observing.described import Described

__all__ = ["require_type_of_products", "trace_of"]


def trace_of(module: torch.nn.Module) -> Trace:
    """A trace for a call of the module. What autocast keeps of earlier casts is dropped: nobody saw these."""
    torch.clear_autocast_cache()
    return Trace(lambda: find_weights(module))


def require_type_of_products(trace: Trace, described: Described) -> None:
    """InputError for a call under autocast that does not compute all products with weights in the type of that."""
    if not described.under_autocast:
        return
    products = [node for node in trace.nodes if node.op in PRODUCTS]
    types = {
        str(node.tensor.dtype).removeprefix("torch.")
        for node in products
        if sum(each.is_constant for each in operands(node)) == 1
    }
    if others := sorted(types - {described.precision.name}):
        raise InputError(
            f"it is called under autocast to {described.precision.name} and multiplies by weights in "
            f"{', '.join(others)}: which of its numbers are rounded to what is not re-derived"
        )
