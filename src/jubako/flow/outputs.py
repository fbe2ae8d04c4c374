"""What a task's `output()` gives, as a flat list of targets. A target is whatever can be asked if it exists."""

from __future__ import annotations

from typing import Any

from jubako.errors import InputError
from jubako.flow.local_target import LocalTarget
from jubako.flow.nesting import flatten
from jubako.flow.task import Task

__all__ = ["find_targets"]


def find_targets(task: Any) -> list[Any]:
    """The targets of `task`, nearly always one. InputError where something among them is none."""
    outputs = task.output()
    if isinstance(outputs, LocalTarget):
        return [outputs]
    targets = flatten(outputs)
    for target in targets:
        if not hasattr(target, "exists"):
            raise InputError(f"output() of {task} gives {target!r}, which is no target; {_cure(target)}")
    return targets


def _cure(given: object) -> str:
    if isinstance(given, str):
        return f"LocalTarget({given!r}) is one"
    if isinstance(given, Task):
        return "give what its output() gives"
    return "give a LocalTarget, or anything else with an exists()"
