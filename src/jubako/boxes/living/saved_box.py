"""A `Box` as JSON and back, whatever fields it has: what a living box is made again from when it is started again.

A record is an object that names its class, so that a field added to one of them later is saved without a word here.
Reading takes only records of `jubako.boxes`; a field that this version doesn't know is left out, one that is missing
has its default.
"""

from __future__ import annotations

from importlib import import_module

from jubako.boxes.spec import Box
from jubako.records import as_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["box_from_json", "box_to_json"]

_CLASS = "@"
_ROOM = "jubako.boxes."


def box_to_json(value: Any) -> Any:
    """The box, or a value in one, made of what JSON knows."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, (list, tuple)):
        return [box_to_json(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted(box_to_json(one) for one in value)
    if isinstance(value, dict):
        return {str(name): box_to_json(one) for name, one in value.items()}
    kind = type(value)
    if not hasattr(kind, "__record_setters__"):
        raise TypeError(f"a box with a {kind.__name__} in it cannot be saved")
    named = {_CLASS: f"{kind.__module__}:{kind.__qualname__}"}
    return named | {name: box_to_json(one) for name, one in as_dict(value).items()}


def box_from_json(value: Any) -> Box:
    """The box that was saved. ValueError if it is none."""
    try:
        box = _read(value)
    except (AttributeError, ImportError, TypeError) as error:
        raise ValueError(f"the box was saved by another version of jubako: {error}") from error
    if not isinstance(box, Box):
        raise ValueError("no box is saved there")
    return box


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_read(one) for one in value)
    if not isinstance(value, dict):
        return value
    if _CLASS not in value:
        return {name: _read(one) for name, one in value.items()}
    module, _, name = str(value[_CLASS]).partition(":")
    if not module.startswith(_ROOM):
        raise ValueError(f"{value[_CLASS]!r} is none of jubako's records")
    kind = getattr(import_module(module), name)
    if not hasattr(kind, "__record_setters__"):
        raise ValueError(f"{value[_CLASS]!r} is no record")
    return kind(**{field: _read(one) for field, one in value.items() if field in kind.__slots__})
