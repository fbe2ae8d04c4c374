"""What of a module and of torch is turned for a while, and turned back however that ends: training, torch's fast path.

All turning happens within the try, as an interrupt may come between any two instructions. Threads take turns: two that
turn the same at once would each turn it back to what the other made of it.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import RLock

import torch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TURNING", "evaluating", "fast_path"]

TURNING = RLock()  # held by the thread that checks: while its runs are made, nobody else's are


@contextmanager
def evaluating(*modules: torch.nn.Module) -> Iterator[None]:
    """Within it the modules, and all that are in them, are not in training; afterwards each is as it was."""
    modes = {each: each.training for module in modules for each in module.modules()}
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for each, is_training in modes.items():
            each.training = is_training


@contextmanager
def fast_path(*, enabled: bool) -> Iterator[None]:
    """Within it torch may take the fast path of its layers, or may not; afterwards as before."""
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(enabled)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
