"""Requirements and outputs come as one thing, a list, a dict, or any nesting of them; these walk such structures."""

from __future__ import annotations

from collections import deque
from typing import Any

from jubako.flow.tasks.register import Register

__all__ = ["flatten", "flatten_output", "getpaths"]


def flatten(struct: Any) -> list[Any]:
    """All things in `struct`, at any depth, in order; None has none, a str is one.

    >>> flatten({"a": "x", "b": ["y", ("z",)]})
    ['x', 'y', 'z']
    """
    if struct is None:
        return []
    if isinstance(struct, dict):
        return [item for value in struct.values() for item in flatten(value)]
    if isinstance(struct, str):
        return [struct]
    try:
        items = iter(struct)
    except TypeError:
        return [struct]
    return [item for value in items for item in flatten(value)]


def getpaths(struct: Any) -> Any:
    """`struct` with each task in it replaced by its output."""
    if isinstance(type(struct), Register):  # a task
        return struct.output()
    if isinstance(struct, dict):
        return type(struct)((key, getpaths(value)) for key, value in struct.items())
    if isinstance(struct, (list, tuple)):
        return type(struct)(getpaths(value) for value in struct)
    try:
        return [getpaths(value) for value in struct]
    except TypeError:
        raise TypeError(f"Cannot map {struct} to Task/dict/list") from None


def flatten_output(task: Any) -> list[Any]:
    """The outputs of `task`; for a task that has none, those of its requirements, and so on."""
    producers: dict[Any, None] = {}
    queue = deque([task])
    while queue:
        current = queue.popleft()
        if flatten(current.output()):
            producers.setdefault(current)
        else:
            queue.extend(flatten(current.requires()))
    return [output for producer in producers for output in flatten(producer.output())]
