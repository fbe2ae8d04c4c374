"""What a task's `output()` gives, as a flat list of targets. A target is whatever can be asked if it exists."""

from __future__ import annotations

from typing import Any

from jubako.errors import InputError
from jubako.flow.local_target import LocalTarget
from jubako.flow.nesting import flatten
from jubako.flow.task import Task

__all__ = ["find_targets", "refuse_untold"]


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


def refuse_untold(task: Any) -> None:
    """InputError for a task of which nobody can tell if it is done: a range of such would be run again and again."""
    if type(task).complete is not Task.complete or "complete" in vars(task):
        return
    try:
        targets = find_targets(task)
    except Exception:  # noqa: BLE001  (the task's own code; who asks it in earnest says what is wrong)
        return
    if not targets:
        raise InputError(
            f"{task.task_family} has neither outputs nor a complete() of its own: nobody can tell what of it is done",
            hint="give it an output(), or a complete(); one task alone can be run as it is",
        )


def _cure(given: object) -> str:
    if isinstance(given, str):
        return f"LocalTarget({given!r}) is one"
    if isinstance(given, Task):
        return "give what its output() gives"
    return "give a LocalTarget, or anything else with an exists()"
