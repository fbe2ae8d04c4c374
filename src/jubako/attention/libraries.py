"""Loads what needs NumPy or torch; where they are missing, a sentence says how to get them."""

from __future__ import annotations

from importlib import import_module

from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["load"]

_EXTRAS = {"numpy": "attention", "torch": "torch"}  # what may be missing -> the extra that brings it


def load(module: str) -> ModuleType:
    """The module of this name. InputError, with what to install, if a library that it needs is not there."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        raise InputError(
            f"this needs {error.name}, which is not installed", hint=f"pip install 'jubako[{_EXTRAS[error.name]}]'"
        ) from error
