"""What a task's `output()` gives, as a flat list of targets. A target is whatever can be asked if it exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jubako.errors import InputError
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.tasks.nesting import flatten
from jubako.flow.tasks.task import Task

__all__ = ["find_targets", "lives_in_memory", "refuse_untold"]


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


def lives_in_memory(targets: Sequence[Any]) -> bool:
    """True if one of `targets` exists in this process only, so that its task has to run here."""
    return any(getattr(target, "in_memory", False) for target in targets)
