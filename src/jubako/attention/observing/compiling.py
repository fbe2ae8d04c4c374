"""Modules that torch.compile has been at: run as they are written, so that what they do can be seen.

What a compiled module gives is seen from outside only, and compared as a result.
"""

from __future__ import annotations

import torch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any

__all__ = ["as_compiled", "as_written", "find_compiled", "is_compiled", "not_compiled"]


def is_compiled(module: Any) -> bool:
    """True if the module itself is compiled, or stands for one that is."""
    return type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None


def find_compiled(model: torch.nn.Module) -> list[str]:
    """The names of all modules in a model that are compiled."""
    return [name or type(module).__name__ for name, module in model.named_modules() if is_compiled(module)]


def as_written() -> AbstractContextManager[None]:
    """Within it nothing that was compiled is used."""
    return torch.compiler.set_stance("force_eager")  # type: ignore[no-any-return, no-untyped-call, unused-ignore]


def as_compiled() -> AbstractContextManager[None]:
    """Within it, it is again."""
    return torch.compiler.set_stance("default")  # type: ignore[no-any-return, no-untyped-call, unused-ignore]


def not_compiled(function: Any) -> Any:
    """A function that is called as it is where what is around it is compiled."""
    return torch.compiler.disable(function)  # type: ignore[no-untyped-call]
