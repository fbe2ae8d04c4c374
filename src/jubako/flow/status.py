"""What dated tasks stand at, for whole ranges: done, missing, failed, running ...

Done is what is there: outputs are asked for in bulk. The ledger adds what happened: which of the missing failed, which
were made and have gone since, which are there though no run is known to have made them, which a run is at work on.

    is it there?   the ledger's last word   owed, held, disabled    state
    yes            done                     -                       done
    yes            failed, or nothing       -                       unrecorded
    yes            any                      a call is owed          owed
    no             any                      a living run has it     running
    no             any                      disabled                disabled
    no             failed                   -                       failed
    no             done                     -                       gone
    no             nothing                  -                       missing
    unknown: asking raised                                          broken
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from jubako.flow.completeness import targets_exist
from jubako.flow.graph import is_external
from jubako.flow.history import History
from jubako.flow.partitions import Interval, find_partition, find_value
from jubako.flow.standing import Broken, Standing
from jubako.flow.task import Task

__all__ = ["STATES", "Recorded", "State", "Stretch", "find_states", "join_stretches"]

State = Literal["done", "owed", "unrecorded", "running", "disabled", "missing", "gone", "failed", "broken"]
STATES: Final[tuple[State, ...]] = (  # the worst last
    "done",
    "owed",
    "unrecorded",
    "running",
    "disabled",
    "missing",
    "gone",
    "failed",
    "broken",
)
_OUTCOMES: Final = {"published": "done", "failed": "failed", "timeout": "failed"}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Values that follow each other, all in one state; `last` is one of them."""

    first: Any
    last: Any
    state: State
    count: int


class Recorded:
    """The ledger's last word on the tasks of one family: "done", "failed" or "" (none that counts)."""

    def __init__(self, history: History, pipeline: str, family: str) -> None:
        self._history = history
        self._pipeline = pipeline
        self._family = family
        self._intervals: dict[str, dict[tuple[str, str], list[Interval]]] = {}
        self._outcomes: Mapping[str, str] | None = None

    def ask(self, task: Any) -> str:
        """Dated tasks are looked up in stretches, which are kept for ever; others in the attempts, which are not."""
        partition = find_partition(task)
        if partition is None:
            if self._outcomes is None:
                self._outcomes = self._history.last_outcomes(self._pipeline, self._family)
            return _OUTCOMES.get(self._outcomes.get(task.task_id, ""), "")
        intervals = self._of(partition.fixed).get((partition.parameter, partition.unit), [])
        index = bisect_right(intervals, partition.place, key=lambda interval: interval.first) - 1
        return intervals[index].status if index >= 0 and partition.place < intervals[index].after else ""

    def find_ends(self, task: Any) -> tuple[Any, Any] | None:
        """The first and last value recorded of the series that `task` belongs to; None if nothing of it is."""
        partition = find_partition(task)
        if partition is None:
            return None
        intervals = self._of(partition.fixed).get((partition.parameter, partition.unit))
        if not intervals:
            return None
        parameter = dict(task.get_params())[partition.parameter]
        first, last = intervals[0].first, intervals[-1].after - 1
        return find_value(parameter, partition.unit, first), find_value(parameter, partition.unit, last)

    def _of(self, fixed: str) -> dict[tuple[str, str], list[Interval]]:
        if fixed not in self._intervals:
            self._intervals[fixed] = self._history.list_intervals(self._pipeline, self._family, fixed=fixed)
        return self._intervals[fixed]


def find_states(tasks: Sequence[Task], history: History, pipeline: str) -> list[State]:
    """What each of `tasks`, all of one family, stands at."""
    if not tasks:
        return []
    recorded = Recorded(history, pipeline, tasks[0].get_task_family())
    held, owed = history.list_held(pipeline), history.list_owed(pipeline)
    answers = Standing(targets_exist).look(tasks)
    states: list[State] = []
    for task, answer in zip(tasks, answers, strict=True):
        if isinstance(answer, Broken):
            states.append("broken")
        elif answer:
            is_known = type(task).run is Task.run or is_external(task) or recorded.ask(task) == "done"
            states.append("owed" if task.task_id in owed else "done" if is_known else "unrecorded")
        elif task.task_id in held:
            states.append("running")
        elif task.disabled:
            states.append("disabled")
        else:
            word = recorded.ask(task)
            states.append("failed" if word == "failed" else "gone" if word == "done" else "missing")
    return states


def join_stretches(values: Sequence[Any], states: Sequence[State]) -> list[Stretch]:
    """Values in time's order, those joined that follow each other in one state."""
    stretches: list[Stretch] = []
    for value, state in zip(values, states, strict=True):
        if stretches and stretches[-1].state == state:
            last = stretches[-1]
            stretches[-1] = Stretch(last.first, value, state, last.count + 1)
        else:
            stretches.append(Stretch(value, value, state, 1))
    return stretches
