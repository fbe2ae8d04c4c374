"""Hooks that belong to the module they are put on, and to nobody's copy of it.

A model that is copied or pickled while it is watched takes its hooks along, which nobody takes off again. A copy of
such a hook does nothing, and keeps nothing alive.
"""

from __future__ import annotations

from weakref import WeakMethod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Hook"]


class Hook:
    """Calls a method, as long as there is the object whose it is; a copy of it calls nothing."""

    def __init__(self, method: Callable[..., None] | None = None) -> None:
        self._method = None if method is None else WeakMethod(method)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """What torch calls."""
        method = None if self._method is None else self._method()
        if method is not None:
            method(*args, **kwargs)

    def __reduce__(self) -> tuple[type[Hook], tuple[()]]:
        """For copy, and for pickle."""
        return Hook, ()
