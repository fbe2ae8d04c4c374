"""Requirements that `run()` finds out while it runs, when there is more to say about them than which tasks they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from jubako.flow.tasks.nesting import flatten, getpaths

__all__ = ["DynamicRequirements"]

CompleteFunction = Callable[[Any], bool]


class DynamicRequirements:
    """What a `run()` may yield: tasks in any nesting, and a quicker way to ask if all of them are done.

    `custom_complete` is given the function that asks one task, and answers for all:

        def run(self):
            days = [DailySummary(date) for date in self.month.dates()]
            yield DynamicRequirements(days, lambda complete: all(complete(day) for day in days[-1:]))
    """

    def __init__(self, requirements: Any, custom_complete: Callable[[CompleteFunction], bool] | None = None) -> None:
        self.requirements = requirements
        self.custom_complete = custom_complete

    @cached_property
    def flat_requirements(self) -> list[Any]:
        return flatten(self.requirements)

    @cached_property
    def paths(self) -> Any:
        """The outputs of the required tasks, in the same nesting: what the `yield` returns."""
        return getpaths(self.requirements)

    def complete(self, complete_fn: CompleteFunction | None = None) -> bool:
        """Tells if all are done; `complete_fn` asks one task (default: its `complete()`)."""
        ask = _ask_task if complete_fn is None else complete_fn
        if self.custom_complete is not None:
            return self.custom_complete(ask)
        return all(ask(task) for task in self.flat_requirements)


def _ask_task(task: Any) -> bool:
    done: bool = task.complete()
    return done
