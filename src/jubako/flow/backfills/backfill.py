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

A range may have millions of dates. What is kept of each is its date; tasks are made a few thousand at a time, asked
together, and let go.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from jubako.errors import InputError
from jubako.flow.accounting import RangeAccount
from jubako.flow.parameters import (
    DateHourParameter,
    DateMinuteParameter,
    DateParameter,
    DateSecondParameter,
    OptionalParameterMixin,
    Parameter,
    parse_argument,
)
from jubako.flow.result import RunResult
from jubako.flow.tasks.register import Register
from jubako.flow.tasks.task import Task
from jubako.records import record

__all__ = [
    "Ask",
    "Backfill",
    "Wanted",
    "account_for",
    "enumerate_values",
    "find_dated_parameter",
    "format_spans",
    "is_dated",
    "plan_backfill",
    "values_between",
]

Ask: TypeAlias = Callable[[Sequence[Task]], Sequence[bool]]  # answers in the order of the tasks

_CHUNK: Final = 5_000
_DATED: Final = (DateParameter, DateHourParameter, DateMinuteParameter, DateSecondParameter)  # months, years: dates


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

    def value_of(self, task: object) -> Any | None:
        """The value whose task this is; None if it is none of the range's."""
        if type(task) is not self.family:
            return None
        value = getattr(task, self.name)
        index = bisect_left(self.values, value)
        is_wanted = index < len(self.values) and self.values[index] == value
        return value if is_wanted and task == self.family(**{self.name: value}, **self.others) else None

    def chunks(self) -> Iterator[tuple[Sequence[Any], list[Task]]]:
        """Some values and their tasks after the other; no task is kept."""
        for start in range(0, len(self.values), _CHUNK):
            values = self.values[start : start + _CHUNK]
            with Register.forgetting_new_tasks():
                yield values, self.family.make_passing(self.name, values, self.others)


@record
class Backfill:
    """A planned backfill: values of the range, in time's order. Those that are in no list are done and left alone."""

    wanted: Wanted
    to_run: Sequence[Any]
    over_limit: Sequence[Any] = ()
    not_asked: Sequence[Any] = ()
    newest_first: bool = False

    @property
    def done_before(self) -> int:
        """How many of the wanted were complete when the plan was made, and are not run again."""
        return len(self.wanted.values) - len(self.to_run) - len(self.over_limit) - len(self.not_asked)

    def spans(self) -> list[str]:
        """What is to run, exactly: "2010-01-01...2010-03-13", "2010-03-15"."""
        return format_spans(self.wanted.parameter, self.to_run)

    def describe(self) -> str:
        """The plan in a line: how many are wanted, were done before, are to run, and from where to where."""
        wanted, to_run = self.wanted, self.to_run
        text = f"{wanted.label}: {len(wanted.values)} wanted, {self.done_before} done before, {len(to_run)} to run"
        if to_run:
            text += f" ({_describe_ends(wanted.parameter, to_run)}{', newest first' if self.newest_first else ''})"
        text += f", {len(self.over_limit)} over the limit" if self.over_limit else ""
        return text + (f", {len(self.not_asked)} missing and not asked for" if self.not_asked else "")


def is_dated(parameter: Parameter[Any]) -> bool:
    """True if the parameter's values are points in time that count on."""
    return isinstance(parameter, _DATED) and not isinstance(parameter, OptionalParameterMixin)


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
        raise InputError(
            f"{name}'s {' and '.join(given for given, _ in dated)} was given, and a range as well", hint="give only one"
        )
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


def plan_backfill(
    wanted: Wanted,
    *,
    are_complete: Ask,
    have_failed: Ask | None = None,
    redo_done: bool = False,
    limit: int | None = None,
    newest_first: bool = False,
) -> Backfill:
    """The plan for a range. `are_complete` answers for some thousand tasks at a time, in order, which are done.

    `have_failed`, if given, answers which of the others failed last time, and only those are run. With `redo_done` what
    is done is run too, so nobody is asked. `limit` is how many may be run at most.
    """
    to_run: list[Any] = []
    not_asked: list[Any] = []
    for values, tasks in wanted.chunks():  # with `redo_done` too: a task's own code may refuse a value
        if redo_done:
            to_run += values
            continue
        missing = [index for index, is_done in enumerate(are_complete(tasks)) if not is_done]
        if have_failed is None:
            to_run += [values[index] for index in missing]
            continue
        for index, has_failed in zip(missing, have_failed([tasks[index] for index in missing]), strict=True):
            (to_run if has_failed else not_asked).append(values[index])
    over_limit: list[Any] = []
    if limit is not None and len(to_run) > limit:
        split = len(to_run) - limit if newest_first else limit
        older, newer = to_run[:split], to_run[split:]
        to_run, over_limit = (newer, older) if newest_first else (older, newer)
    return Backfill(wanted, to_run, over_limit, not_asked, newest_first)


def account_for(plan: Backfill, result: RunResult) -> RangeAccount:
    """What became of the range. Counted from the run where it met a task, for it knows more: it recovers first."""
    groups = result.groups
    told: dict[Any, str] = {}  # of each value that is not simply done
    for values, what in ((plan.to_run, "not_run"), (plan.over_limit, "over_limit"), (plan.not_asked, "not_asked")):
        told.update(dict.fromkeys(values, what))
    for tasks, what in (
        (groups.already_done, "done_before"),
        (groups.completed, "run"),
        (groups.failed, "failed"),
        (groups.scheduling_error, "failed"),
    ):
        told.update((value, what) for task in tasks if (value := plan.wanted.value_of(task)) is not None)
    counts = Counter(told.get(value, "done_before") for value in plan.wanted.values)
    return RangeAccount(
        plan.wanted.label,
        len(plan.wanted.values),
        done_before=counts["done_before"],
        run=counts["run"],
        over_limit=counts["over_limit"],
        failed=counts["failed"],
        not_run=counts["not_run"],
        not_asked=counts["not_asked"],
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
