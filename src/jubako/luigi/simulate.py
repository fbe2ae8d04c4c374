"""A target that is there once its task says so, in this process, and never again: the task runs in every run."""

from __future__ import annotations

from typing import Any, ClassVar

from jubako.flow.targets.target import Target

__all__ = ["RunAnywayTarget"]


class RunAnywayTarget(Target):
    """`output()` of a task that has nothing to show: `RunAnywayTarget(self)`, and `self.output().done()` in `run()`."""

    in_memory: ClassVar[bool] = True  # what is done is known in this process only, so the task runs here
    _done: ClassVar[set[str]] = set()

    def __init__(self, task_obj: Any) -> None:
        self.task_id: str = task_obj.task_id

    def __str__(self) -> str:
        return self.task_id

    def exists(self) -> bool:
        return self.task_id in self._done

    def done(self) -> None:
        """Says that the task has run."""
        self._done.add(self.task_id)
