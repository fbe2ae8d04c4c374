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
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from jubako.flow.engine.disabling import Verdict
from jubako.flow.graph.completeness import targets_exist
from jubako.flow.graph.graph import is_external
from jubako.flow.graph.standing import Broken, ask_family
from jubako.flow.ledger.history import History
from jubako.flow.ledger.partitions import Interval, find_partition, find_value
from jubako.flow.tasks.task import Task
from jubako.records import record

__all__ = ["STATES", "Recorded", "State", "States", "Stretch", "join_stretches"]

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


@record
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


class States:
    """What tasks of one family stand at. The ledger is asked when this is made, outputs at each look.

    `judge` tells who has failed too often.
    """

    def __init__(
        self,
        history: History,
        pipeline: str,
        family: str,
        judge: Callable[[Any], Verdict] = lambda task: Verdict(),
    ) -> None:
        self._judge = judge
        self._recorded = Recorded(history, pipeline, family)
        self._held, self._owed = history.list_held(pipeline), history.list_owed(pipeline)

    def look(self, tasks: Sequence[Task]) -> list[State]:
        """The state of each of `tasks`, all different."""
        answers = ask_family(tasks, targets_exist)
        return [
            "broken" if isinstance(answer, Broken) else self._of_done(task) if answer else self._of_missing(task)
            for task, answer in zip(tasks, answers, strict=True)
        ]

    def have_failed(self, tasks: Iterable[Task]) -> list[bool]:
        """Which of `tasks`, none of which is done, are missing because they failed."""
        ask = self._recorded.ask  # first, for few have, and ids of tasks cost more
        return [ask(task) == "failed" and self._of_missing(task) == "failed" for task in tasks]

    def _of_done(self, task: Task) -> State:
        if task.task_id in self._owed:
            return "owed"
        is_known = type(task).run is Task.run or is_external(task) or self._recorded.ask(task) == "done"
        return "done" if is_known else "unrecorded"

    def _of_missing(self, task: Task) -> State:
        if task.task_id in self._held:
            return "running"
        if task.disabled or self._judge(task).until_s is not None:
            return "disabled"
        word = self._recorded.ask(task)
        return "failed" if word == "failed" else "gone" if word == "done" else "missing"


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
