"""Loads what needs NumPy or torch; where they are missing, a sentence says how to get them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from jubako.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["is_loadable", "load"]

_EXTRAS = {"numpy": "attention", "torch": "torch"}  # what may be missing -> the extra that brings it, and what is above
_WITH_TORCH = ("jubako.attention.observing", "jubako.attention.layer", "jubako.attention.maps.tracing")  # need both
_WITHOUT_NUMPY = (
    *("jubako.attention.checker", "jubako.attention.checking.options", "jubako.attention.checking.precision"),
    *("jubako.attention.free_memory", "jubako.verify"),
)


def is_loadable(module: str) -> bool:
    """True if all libraries that a module of this name needs are there; nothing is imported."""
    return all(map(_is_there, _libraries_of(module)))


def load(module: str) -> ModuleType:
    """The module of this name. HostError, with what to install, if a library that it needs is not there."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        missing = [name for name in _libraries_of(module) if name == error.name or not _is_there(name)] or [error.name]
        verb = "is" if len(missing) == 1 else "are"
        raise HostError(
            f"this needs {' and '.join(missing)}, which {verb} not installed",
            hint=f"pip install 'jubako[{_EXTRAS[missing[-1]]}]'",
        ) from error


def _libraries_of(module: str) -> tuple[str, ...]:
    if module.startswith(_WITH_TORCH):
        return ("numpy", "torch")
    return () if module.startswith(_WITHOUT_NUMPY) else ("numpy",)


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):  # the latter for one that was put out of reach
        return False
