"""Says what is not there of tasks that have no run(): the files somebody or something else has to put in place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from jubako.flow.tasks.nesting import flatten

__all__ = ["describe_missing"]

_TASKS_NAMED: Final = 5


def describe_missing(tasks: Sequence[Any]) -> list[str]:
    """One sentence a task, "Rates(): /data/rates.csv is not there, and no task makes it"; of many, the first few."""
    lines = [_describe(task) for task in tasks[:_TASKS_NAMED]]
    more = len(tasks) - _TASKS_NAMED
    if more > 0:
        lines.append(f"and {more} more {'tasks' if more > 1 else 'task'} whose outputs are not there and no task makes")
    return lines


def _describe(task: Any) -> str:
    paths = [os.path.abspath(path) for target in flatten(task.output()) if (path := getattr(target, "path", ""))]
    gone = [path for path in paths if not os.path.lexists(path)] or paths
    if not gone:
        return f"{task}: it is not complete, and has no run() that could make it so"
    if len(gone) == 1:
        return f"{task}: {gone[0]} is not there, and no task makes it"
    return f"{task}: {gone[0]} and {len(gone) - 1} more are not there, and no task makes them"
