"""A backfill: one dated task for every date of a range. Decides which dates are wanted, which are done, which to run.
Afterwards it counts what became of them.

There is no window and no limit, unlike in the Range tasks: what was asked for is what is planned. Nothing is remembered
either. What is done is what is there, so the same backfill again carries on where the last one was stopped.

Dated are the parameters whose values count on in time: hours, days, months, years, each with its own step.

A range may have millions of dates. What is kept of each is its date; tasks are made a few thousand at a time, asked
together, and let go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

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
from jubako.flow.register import Register
from jubako.flow.result import RunResult
from jubako.flow.task import Task
from jubako.records import record

__all__ = [
    "Backfill",
    "Wanted",
    "account_for",
    "find_dated_parameter",
    "format_spans",
    "is_dated",
    "plan_backfill",
    "values_between",
]

_CHUNK: Final = 5_000
_DATED: Final = (
    DateParameter,
    DateHourParameter,
    DateMinuteParameter,
    DateSecondParameter,
)  # months and years are dates


@record
class Wanted:
    """A range: the tasks of `family` with each of `values`, in time's order, as `name`, and `others` for all."""

    family: type[Task]
    name: str
    values: Sequence[Any]
    others: Mapping[str, object]

    @property
    def parameter(self) -> Parameter[Any]:
        """The one that goes through the range."""
        return dict(self.family.get_params())[self.name]

    @property
    def label(self) -> str:
        """What the range is: "DailySummary 2010-01-01...2010-12-31"."""
        return f"{self.family.get_task_family()} {_describe_ends(self.parameter, self.values)}"

    def tasks(self, values: Iterable[Any] | None = None) -> list[Task]:
        """The task of each of `values`, by default of all."""
        return [
            self.family(**{self.name: value}, **self.others) for value in (self.values if values is None else values)
        ]

    def chunks(self) -> Iterator[tuple[Sequence[Any], list[Task]]]:
        """Some values and their tasks after the other; no task is kept."""
        for start in range(0, len(self.values), _CHUNK):
            values = self.values[start : start + _CHUNK]
            with Register.forgetting_new_tasks():
                yield values, self.family.make_passing(self.name, values, self.others)


@record
class Backfill:
    """A planned backfill. `to_run` are the values whose tasks aren't done, in time's order."""

    wanted: Wanted
    to_run: Sequence[Any]
    newest_first: bool = False

    @property
    def done_before(self) -> int:
        """How many of the wanted were complete when the plan was made."""
        return len(self.wanted.values) - len(self.to_run)

    def spans(self) -> list[str]:
        """What is to run, exactly: "2010-01-01...2010-03-13", "2010-03-15"."""
        return format_spans(self.wanted.parameter, self.to_run)

    def describe(self) -> str:
        """The plan in a line: how many are wanted, were done before, are to run, and from where to where."""
        wanted, to_run = self.wanted, self.to_run
        text = f"{wanted.label}: {len(wanted.values)} wanted, {self.done_before} done before, {len(to_run)} to run"
        if not to_run:
            return text
        return f"{text} ({_describe_ends(wanted.parameter, to_run)}{', newest first' if self.newest_first else ''})"


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
        raise InputError(f"{name}'s {' and '.join(fixed)} was given, and --from and --to as well", hint="give only one")
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
    value = parameter.normalize(first)
    if value < first:  # not on the parameter's grid: its values may be some days or hours apart
        value = parameter.next_in_enumeration(value)
    values: list[Any] = []
    while value < last:
        values.append(value)
        value = parameter.next_in_enumeration(value)
    if inclusive and value == last:
        values.append(value)
    if not values:
        raise InputError(f"no value of {family}'s parameter lies between {start} and {stop}")
    return values


def plan_backfill(
    wanted: Wanted, *, are_complete: Callable[[Sequence[Task]], Sequence[bool]], newest_first: bool = False
) -> Backfill:
    """The plan for a range. `are_complete` answers for some thousand tasks at a time, in order, which are done."""
    to_run: list[Any] = []
    for values, tasks in wanted.chunks():
        to_run += [value for value, is_done in zip(values, are_complete(tasks), strict=True) if not is_done]
    return Backfill(wanted, to_run, newest_first)


def account_for(plan: Backfill, result: RunResult) -> RangeAccount:
    """What became of the range. Counted from the run, which knows more than the plan did: it recovers first."""
    groups = result.groups
    tasks = plan.wanted.tasks()
    done, run, failed = (
        sum(task in group for task in tasks)
        for group in (set(groups.already_done), set(groups.completed), {*groups.failed, *groups.scheduling_error})
    )
    wanted = len(tasks)
    return RangeAccount(
        plan.wanted.label, wanted, done_before=done, run=run, failed=failed, not_run=wanted - done - run - failed
    )


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


def _describe_ends(parameter: Parameter[Any], values: Sequence[Any]) -> str:
    """From where to where `values` go: "2010-01-01...2010-12-31"."""
    first, last = (parameter.serialize(value) for value in (values[0], values[-1]))
    return first if first == last else f"{first}...{last}"
