"""Tasks that can run as one: which belong together, and the task that stands for several.

Those of one class belong together that differ only in parameters with a `batch_method`, and need the same resources.
The task for several has the values of those parameters combined by it: `max` of dates, a list of names. As in Luigi.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from jubako.flow.engine.resources import Needs

__all__ = ["Batching", "combine"]


class Batching:
    """Numbers the groups of tasks that can run as one."""

    def __init__(self) -> None:
        self._unbatched: dict[type, tuple[str, ...] | None] = {}  # by class; None: its tasks run alone
        self._groups: dict[Hashable, int] = {}

    def find_group(self, task: Any, needs: Needs) -> tuple[int, int]:
        """The group of `task` and how many of it may run as one; (-1, 1) for a task that runs alone."""
        cls = type(task)
        if cls not in self._unbatched:
            batched = cls.batch_param_names()
            names = [name for name, _ in cls.get_params() if name not in batched]
            self._unbatched[cls] = tuple(names) if batched else None
        unbatched = self._unbatched[cls]
        if unbatched is None or task.max_batch_size <= 1:
            return -1, 1
        key = (cls, needs, tuple(getattr(task, name) for name in unbatched))
        try:
            group = self._groups.setdefault(key, len(self._groups))
        except TypeError:  # a value that cannot be compared quickly: no two tasks are known to share it
            return -1, 1
        most = task.max_batch_size
        return group, 1 << 62 if most == float("inf") else int(most)


def combine(tasks: Sequence[Any]) -> Any:
    """The task that stands for `tasks` of one group; whatever a `batch_method` raises comes out."""
    first = tasks[0]
    if len(tasks) == 1:
        return first
    values = dict(first.param_kwargs)
    for name, parameter in type(first).get_params():
        if parameter.has_batch_method():
            values[name] = parameter.combine([getattr(task, name) for task in tasks])
    return type(first)(**values)
