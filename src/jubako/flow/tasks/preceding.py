"""The task before a dated one: the same with the date, hour or interval before. As in `luigi.util`."""

from __future__ import annotations

import datetime
from typing import Any, Final

from jubako.flow.parameters import (
    DateHourParameter,
    DateIntervalParameter,
    DateMinuteParameter,
    DateParameter,
    DateSecondParameter,
)

__all__ = ["get_previous_completed", "previous"]

_STEPS: Final = (
    (DateParameter, datetime.timedelta(days=1)),  # months and years too: a day before the first is the one before
    (DateSecondParameter, datetime.timedelta(seconds=1)),
    (DateMinuteParameter, datetime.timedelta(minutes=1)),
    (DateHourParameter, datetime.timedelta(hours=1)),
)


def previous(task: Any) -> Any:
    """The task of the same class before `task`; NotImplementedError unless exactly one of its parameters is a time."""
    before = {}
    for name, parameter in task.get_params():
        value = getattr(task, name)
        if isinstance(parameter, DateIntervalParameter):
            before[name] = value.prev()
            continue
        for kind, step in _STEPS:
            if isinstance(parameter, kind):
                before[name] = value - step
                break
    if len(before) != 1:
        what = "Too many date-related task parameters" if before else "No task parameter"
        raise NotImplementedError(f"{what} - can't determine previous task")
    return task.clone(**before)


def get_previous_completed(task: Any, max_steps: int = 10) -> Any | None:
    """The nearest task before `task` that is complete, at most `max_steps` back; None if there is none."""
    for _ in range(max_steps):
        task = previous(task)
        if task.complete():
            return task
    return None
