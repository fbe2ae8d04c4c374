"""What depends on the tasks of a backfill: those of the pipeline that require one of them, directly or not.

Tasks cannot be asked who requires them, so candidates are made and asked what they require: of each class of the
pipeline one for every date that touches the range (the month that a day is in, the hours of a day), or a single one if
it has no date; other parameters as the backfilled tasks have them. A task that looks back from a date after the range
is no candidate.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from jubako.errors import InputError
from jubako.flow.backfills.backfill import Wanted, find_dated_parameter, is_dated
from jubako.flow.graph.completeness import targets_exist
from jubako.flow.graph.standing import Broken, Standing
from jubako.flow.parameters import DateParameter, Parameter
from jubako.flow.tasks.task import Task
from jubako.records import record

__all__ = ["Downstream", "find_downstream"]


@record
class Downstream:
    """The tasks that depend on the range, each once; `left_out` says which classes could not be looked at, and why."""

    tasks: Sequence[Any]
    left_out: Sequence[str] = ()


def find_downstream(wanted: Wanted, classes: Iterable[type[Task]]) -> Downstream:
    """Tasks of `classes` that depend on one of the range; none of the range itself."""
    candidates: list[Any] = []
    left_out: list[str] = []
    for cls in classes:
        if cls is not wanted.family and _may_require(cls):
            try:
                candidates += _make_candidates(cls, wanted)
            except (InputError, ValueError, TypeError) as error:  # also what the task's own __init__ says
                left_out.append(f"{cls.get_task_family()} is not looked at: {error}")
    required_by, broken = _explore(candidates, wanted)
    found: dict[Any, None] = {}
    queue = [task for task in required_by if wanted.value_of(task) is not None]
    for task in queue:  # grows while it is walked
        for other in required_by.get(task, ()):
            if other not in found:
                found[other] = None
                queue.append(other)
    return Downstream(list(found), [*left_out, *broken])


def _may_require(cls: type[Task]) -> bool:
    """False for a class that requires nothing, whatever its parameters are."""
    return cls.requires is not Task.requires or cls._requires is not Task._requires or cls.deps is not Task.deps


def _make_candidates(cls: type[Task], wanted: Wanted) -> list[Any]:
    """The tasks of `cls` whose dates touch the range; values of the same name are taken over."""
    first, last = wanted.values[0], wanted.values[-1]
    (some,) = wanted.tasks([first])
    if not any(is_dated(parameter) for _, parameter in cls.get_params()):
        return [some.clone(cls)]
    given = [other for other, _ in wanted.family.get_params() if other != wanted.name]
    dated, parameter = find_dated_parameter(cls, [other for other, _ in cls.get_params() if other in given])
    end = _moment(wanted.parameter.next_in_enumeration(last))
    candidates = []
    value = parameter.normalize(_as_value(parameter, first))
    while _moment(value) < end:
        candidates.append(some.clone(cls, **{dated: value}))
        value = parameter.next_in_enumeration(value)
    return candidates


def _explore(candidates: Iterable[Any], wanted: Wanted) -> tuple[dict[Any, list[Any]], list[str]]:
    """Who requires whom, from `candidates` down to the range; and what cannot be asked."""
    standing = Standing(targets_exist)
    required_by: defaultdict[Any, list[Any]] = defaultdict(list)
    broken: list[str] = []
    queue = dict.fromkeys(candidates)
    stack = list(queue)
    for task in stack:  # grows while it is walked
        if wanted.value_of(task) is not None:
            continue
        required = standing.requirements(task)
        if isinstance(required, Broken):
            broken.append(f"{task} cannot be asked what it requires: {required.sentence}")
            continue
        for other in dict.fromkeys(required):
            required_by[other].append(task)
            if other not in queue:
                queue[other] = None
                stack.append(other)
    return required_by, broken


def _as_value(parameter: Parameter[Any], value: Any) -> Any:
    """`value`, a date or a time, in the type that values of `parameter` have."""
    return _moment(value) if not isinstance(parameter, DateParameter) else _moment(value).date()


def _moment(value: Any) -> datetime.datetime:
    """When a date or a time begins."""
    if isinstance(value, datetime.datetime):
        return value
    return datetime.datetime.combine(value, datetime.time())
