"""Attention layers, re-derived and checked; maps; and a layer that can take the place of torch's.

The public names. They are loaded on first use, so that importing this needs neither NumPy nor torch.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.attention.layer.compiled import use_kernel as use_kernel
    from jubako.attention.layer.inputs import AttentionInputError as AttentionInputError
    from jubako.attention.layer.memory import SizeError as SizeError
    from jubako.attention.layer.module import MultiheadAttention as MultiheadAttention
    from jubako.attention.layer.replacing import Replacement as Replacement
    from jubako.attention.layer.replacing import from_torch as from_torch
    from jubako.attention.layer.replacing import replace_in as replace_in
    from jubako.attention.layer.wanted import Attended as Attended
    from jubako.attention.layer.wanted import Want as Want

_NAMES_IN = {
    "jubako.attention.layer.compiled": ("use_kernel",),
    "jubako.attention.layer.inputs": ("AttentionInputError",),
    "jubako.attention.layer.memory": ("SizeError",),
    "jubako.attention.layer.module": ("MultiheadAttention",),
    "jubako.attention.layer.replacing": ("Replacement", "from_torch", "replace_in"),
    "jubako.attention.layer.wanted": ("Attended", "Want"),
}

_HOME_OF = {name: home for home, names in _NAMES_IN.items() for name in names}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605  (names come from the table)


def __getattr__(name: str) -> Any:
    try:
        home = _HOME_OF[name]
    except KeyError:
        raise AttributeError(f"module 'jubako.attention' has no attribute {name!r}") from None
    from importlib import import_module  # importing this package costs nothing

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
