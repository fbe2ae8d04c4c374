"""Making an external task of an ordinary one: something to require, but not to run."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

__all__ = ["externalize"]

T = TypeVar("T")


def externalize(taskclass_or_taskobject: T) -> T:
    """A copy of a task class, or of a task, that has no `run`; the original stays as it is.

    The copy of a class keeps its name and family, and isn't found by that name.
    """
    if not isinstance(taskclass_or_taskobject, type):
        task: Any = copy.copy(taskclass_or_taskobject)
        task.run = None
        return task  # type: ignore[no-any-return]
    original: Any = taskclass_or_taskobject
    body = {"_visible_in_registry": False, "run": None, "__module__": original.__module__, "__doc__": original.__doc__}
    external: Any = type(original)(original.__name__, (original,), body | {"__qualname__": original.__qualname__})
    external._namespace_at_class_time = original._namespace_at_class_time
    return external  # type: ignore[no-any-return]
