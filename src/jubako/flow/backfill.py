"""A backfill: one dated task for every date of a range. Decides which dates are wanted, which are done, which to run.
Afterwards it counts what became of them.

There is no window and no hidden limit, unlike in the Range tasks: what was asked for is what is planned. Nothing is
remembered either. What is done is what is there, so the same backfill again carries on where the last one was stopped.

    wanted = done + to_run + over_limit + not_asked

    redo       runs                                  leaves out
    missing    what is not there                     -
    failed     what is not there and failed          not_asked: what is not there and has not failed
    all        everything, also what is there        -

Dated are the parameters whose values count on in time: hours, days, months, years, each with its own step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jubako.errors import InputError
from jubako.flow.accounting import RangeAccount
from jubako.flow.parameters import (
    DateHourParameter,
    DateMinuteParameter,
    DateParameter,
    DateSecondParameter,
    Parameter,
    parse_argument,
)
from jubako.flow.result import RunResult
from jubako.flow.task import Task

__all__ = [
    "Backfill",
    "Redo",
    "account_for",
    "enumerate_values",
    "find_dated_parameter",
    "format_range",
    "format_spans",
    "is_dated",
    "list_wanted",
    "plan_backfill",
    "values_between",
]

Redo = Literal["missing", "failed", "all"]

_DATED = (DateParameter, DateHourParameter, DateMinuteParameter, DateSecondParameter)  # months and years are dates


@dataclass(frozen=True, slots=True)
class Backfill:
    """A planned backfill. All sequences of tasks are in time's order; see the head of the file for what adds up."""

    name: str  # of the parameter that goes through the range
    parameter: Parameter[Any]
    wanted: Sequence[Task]
    done: Sequence[Task]  # there when the plan was made, and left alone
    to_run: Sequence[Task]
    over_limit: Sequence[Task] = ()
    not_asked: Sequence[Task] = ()
    newest_first: bool = False

    @property
    def done_before(self) -> int:
        """How many of the wanted were complete when the plan was made, and are not run again."""
        return len(self.done)

    def value_of(self, task: Task) -> Any:
        """The task's place in the range."""
        return getattr(task, self.name)

    def spans(self) -> list[str]:
        """What is to run, exactly: "2010-01-01...2010-03-13", "2010-03-15"."""
        return format_spans(self.parameter, [self.value_of(task) for task in self.to_run])

    def describe(self) -> str:
        """The plan in a line: how many are wanted, were done before, are to run, and from where to where."""
        text = f"{self.label}: {len(self.wanted)} wanted, {self.done_before} done before, {len(self.to_run)} to run"
        if self.to_run:
            ends = [self.parameter.serialize(self.value_of(task)) for task in (self.to_run[0], self.to_run[-1])]
            between = ends[0] if ends[0] == ends[1] else f"{ends[0]}...{ends[1]}"
            text += f" ({between}{', newest first' if self.newest_first else ''})"
        text += f", {len(self.over_limit)} over the limit" if self.over_limit else ""
        return text + (f", {len(self.not_asked)} missing and not asked for" if self.not_asked else "")

    @property
    def label(self) -> str:
        """What the range is: "DailySummary 2010-01-01...2010-12-31"."""
        return format_range(self.wanted, self.name)


def is_dated(parameter: Parameter[Any]) -> bool:
    """True if the parameter's values are points in time that count on."""
    return isinstance(parameter, _DATED)


def find_dated_parameter(family: type[Task], given: Iterable[str] = ()) -> tuple[str, Parameter[Any]]:
    """The parameter a backfill goes through: the dated one, not counting those that were given a value."""
    fixed = set(given)
    dated = [(name, parameter) for name, parameter in family.get_params() if is_dated(parameter)]
    free = [entry for entry in dated if entry[0] not in fixed]
    if len(free) == 1:
        return free[0]
    name = family.get_task_family()
    if not dated:
        raise InputError(
            f"{name} has no parameter for a date, so there is no range to go through",
            hint="a backfill needs a DateParameter, DateHourParameter, MonthParameter or YearParameter",
        )
    if not free:
        raise InputError(f"{name}'s {' and '.join(fixed)} was given, and a range as well", hint="give only one")
    names = [f"--{entry[0].replace('_', '-')}" for entry in free]
    raise InputError(
        f"{name} has several parameters for a date: {', '.join(names)}",
        hint="give all but one of them a value; the backfill goes through the one that is left",
    )


def values_between(
    family: str, parameter: Parameter[Any], start: str, stop: str, *, inclusive: bool = False
) -> list[Any]:
    """Every value from `start` up to `stop`, which counts as well if `inclusive`; both as written on a command line."""
    first = parse_argument(parameter, family, "from", start)
    last = parse_argument(parameter, family, "to", stop)
    if last < first:
        raise InputError(f"--to {stop} is before --from {start}", hint="did you mean the other way round?")
    if last == first and not inclusive:
        raise InputError(
            f"from {start} up to {stop} there is nothing: --to is not part of the range",
            hint=f"--inclusive makes it one: {start}",
        )
    values = list(enumerate_values(parameter, first, last, inclusive=inclusive))
    if not values:
        raise InputError(f"no value of {family}'s parameter lies between {start} and {stop}")
    return values


def enumerate_values(parameter: Parameter[Any], first: Any, last: Any, *, inclusive: bool = False) -> Iterator[Any]:
    """Every value of a dated parameter from `first` up to `last`, which counts as well if `inclusive`."""
    value = parameter.normalize(first)
    if value < first:  # not on the parameter's grid: its values may be some days or hours apart
        value = parameter.next_in_enumeration(value)
    while value < last:
        yield value
        value = parameter.next_in_enumeration(value)
    if inclusive and value == last:
        yield value


def list_wanted(family: type[Task], name: str, values: Iterable[Any], others: Mapping[str, object]) -> list[Task]:
    """The tasks of `family` with each of `values` as `name`, and `others` for all."""
    return [family(**{name: value}, **others) for value in values]


def plan_backfill(
    wanted: Sequence[Task],
    name: str,
    *,
    find_complete: Callable[[Sequence[Task]], Iterable[Task]],
    find_failed: Callable[[Sequence[Task]], Iterable[Task]] | None = None,
    redo: Redo = "missing",
    limit: int | None = None,
    newest_first: bool = False,
) -> Backfill:
    """The plan for the tasks `wanted`, in time's order, which differ in their parameter `name`.

    `find_complete` answers which of the tasks are done; it is asked once, for all of them. `find_failed`, which of
    those that are not done failed last time, for `redo="failed"`. `limit` is how many may be run at most.
    """
    complete = {task.task_id for task in find_complete(wanted)}
    missing = [task for task in wanted if task.task_id not in complete]
    chosen, not_asked = (list(wanted) if redo == "all" else missing), []
    if redo == "failed":
        failed = {task.task_id for task in find_failed(missing)} if find_failed is not None else set()
        chosen = [task for task in missing if task.task_id in failed]
        not_asked = [task for task in missing if task.task_id not in failed]
    over_limit: list[Task] = []
    if limit is not None and len(chosen) > limit:
        split = len(chosen) - limit if newest_first else limit
        chosen, over_limit = (chosen[split:], chosen[:split]) if newest_first else (chosen[:split], chosen[split:])
    left = {task.task_id for task in (*chosen, *over_limit)}
    return Backfill(
        name=name,
        parameter=dict(wanted[0].get_params())[name],
        wanted=wanted,
        done=[task for task in wanted if task.task_id in complete and task.task_id not in left],
        to_run=chosen,
        over_limit=over_limit,
        not_asked=not_asked,
        newest_first=newest_first,
    )


def account_for(plan: Backfill, result: RunResult) -> RangeAccount:
    """What became of the range. Counted from the run where it met a task, for it knows more: it recovers first."""
    groups = result.groups
    told: dict[Any, str] = {}
    for tasks, what in (
        (plan.done, "done_before"),
        (plan.over_limit, "over_limit"),
        (plan.not_asked, "not_asked"),
        (groups.already_done, "done_before"),
        (groups.completed, "run"),
        (groups.failed, "failed"),
        (groups.scheduling_error, "failed"),
    ):
        told.update(dict.fromkeys(tasks, what))
    counts = Counter(told.get(task, "not_run") for task in plan.wanted)
    return RangeAccount(
        plan.label,
        len(plan.wanted),
        done_before=counts["done_before"],
        run=counts["run"],
        over_limit=counts["over_limit"],
        failed=counts["failed"],
        not_run=counts["not_run"],
        not_asked=counts["not_asked"],
    )


def format_range(wanted: Sequence[Task], name: str) -> str:
    """What the range is that the tasks `wanted` make: "DailySummary 2010-01-01...2010-12-31"."""
    parameter = dict(wanted[0].get_params())[name]
    first, last = (parameter.serialize(getattr(task, name)) for task in (wanted[0], wanted[-1]))
    family = wanted[0].get_task_family()
    return f"{family} {first}" if len(wanted) == 1 else f"{family} {first}...{last}"


def format_spans(parameter: Parameter[Any], values: Sequence[Any]) -> list[str]:
    """Sorted values as text, those that follow each other joined: "2010-01-01...2010-01-31", "2010-02-03"."""
    spans: list[list[Any]] = []
    for value in values:
        if spans and parameter.next_in_enumeration(spans[-1][1]) == value:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return [
        parameter.serialize(first) if first == last else f"{parameter.serialize(first)}...{parameter.serialize(last)}"
        for first, last in spans
    ]
