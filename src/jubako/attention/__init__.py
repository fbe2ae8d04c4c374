"""Attention layers, re-derived and checked; maps; and a layer that can take the place of torch's.

The public names. They are loaded on first use, so that importing this needs neither NumPy nor torch.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.attention.maps.maps import Maps as Maps
    from jubako.attention.maps.show import show as show
    from jubako.attention.maps.tracing import trace as trace

_NAMES_IN = {
    "jubako.attention.maps.maps": ("Maps",),
    "jubako.attention.maps.show": ("show",),
    "jubako.attention.maps.tracing": ("trace",),
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
