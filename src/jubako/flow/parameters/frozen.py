"""Immutable, hashable stand-ins for dicts and lists, so that structures can be parts of a task's identity."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["FrozenJSONEncoder", "FrozenOrderedDict", "freeze", "unfreeze"]


class FrozenOrderedDict(Mapping[Any, Any]):
    """A dict that never changes. Equal to any mapping with the same items; keeps their order; prints like a dict."""

    __slots__ = ("_hash", "_items")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._items: dict[Any, Any] = dict(*args, **kwargs)
        self._hash: int | None = None

    def __getitem__(self, key: Any) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._items.items()))
        return self._hash

    def __reduce__(self) -> tuple[type[FrozenOrderedDict], tuple[dict[Any, Any]]]:
        return (type(self), (self._items,))  # without the hash, which differs between processes

    def get_wrapped(self) -> dict[Any, Any]:
        return self._items


class FrozenJSONEncoder(json.JSONEncoder):
    """Writes a `FrozenOrderedDict` as the object it stands for."""

    def default(self, o: Any) -> Any:
        if isinstance(o, FrozenOrderedDict):
            return o.get_wrapped()
        return super().default(o)


def freeze(value: Any) -> Any:
    """`value` with every mapping, list and tuple in it, at any depth, made immutable."""
    if isinstance(value, Mapping):
        return FrozenOrderedDict((key, freeze(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    return value


def unfreeze(value: Any) -> Any:
    """The inverse of `freeze`: plain dicts and lists."""
    if isinstance(value, Mapping):
        return {key: unfreeze(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [unfreeze(item) for item in value]
    return value
