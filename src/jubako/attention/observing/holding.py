"""The weights of a module, wherever they are kept: parameters, buffers, attributes, or what a parametrization computes.

What prunes or normalizes by a hook (torch.nn.utils.prune, the older weight_norm and spectral_norm) makes an attribute
of it before each call; what does so by a parametrization computes it at each look. In training, a look may change what
it is computed from (spectral norm goes one step on), so nobody looks here without holding that still.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch.nn.utils.parametrize import ParametrizationList

from jubako.attention.observing.modes import evaluating

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["find_weights", "holding_weights", "restoring_buffers"]

_NAMES = {
    *("weight", "bias", "in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight"),
    *("bias_k", "bias_v"),
}


def find_weights(module: torch.nn.Module) -> list[torch.Tensor]:
    """All that is a weight as it stands, and all that a parametrization computes one from; nothing is computed."""
    found: list[torch.Tensor] = list(module.parameters())
    for each in module.modules():
        if isinstance(each, ParametrizationList):
            found += each.buffers()
        held = {**each._buffers, **vars(each)}
        found += [held[name] for name in _NAMES if isinstance(held.get(name), torch.Tensor)]
    return found


@contextmanager
def holding_weights(module: torch.nn.Module) -> Iterator[None]:
    """Within it, a look at a weight that is computed changes nothing: what computes it is not in training."""
    lists = [each for each in module.modules() if isinstance(each, ParametrizationList)]
    with evaluating(*lists):
        yield


@contextmanager
def restoring_buffers(module: torch.nn.Module) -> Iterator[None]:
    """Afterwards the buffers hold what they held: a call in training may change them."""
    before = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, held in before:
                if not torch.equal(buffer, held):
                    buffer.copy_(held)
