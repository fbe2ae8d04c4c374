"""What all ranges do: from a task class and two points in time to the tasks that are missing between them.

A range requires at most `task_limit` missing tasks, all of which lie in its window around now, as in Luigi. What it
leaves out because of that Luigi doesn't say; `account()` does. Both are found out once per task object.
"""

from __future__ import annotations

import inspect
import time
import warnings
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from jubako.errors import InputError
from jubako.flow.graph.completeness import find_complete
from jubako.flow.parameters import (
    BoolParameter,
    DictParameter,
    IntParameter,
    Parameter,
    ParameterException,
    ParameterVisibility,
    TaskParameter,
)
from jubako.flow.parameters.parameter import CONCEALED
from jubako.flow.ranges.range_missing import ask_bulk_complete, infer_bulk_complete_from_fs
from jubako.flow.ranges.range_plan import RangePlan, Window, plan_range, plan_window
from jubako.flow.ranges.range_points import Grid
from jubako.flow.targets.outputs import refuse_untold
from jubako.flow.tasks.event import Event
from jubako.flow.tasks.nesting import flatten_output
from jubako.flow.tasks.register import find_signature
from jubako.flow.tasks.task import WrapperTask

__all__ = ["NONE", "InferredCompleteness", "RangeBase", "RangeEvent"]

NONE: Any = None  # the default of parameters that Luigi leaves open, although their type says otherwise


class RangeEvent(Event):
    """What ranges say about themselves, with the family and a number."""

    COMPLETE_COUNT = "event.tools.range.complete.count"
    COMPLETE_FRACTION = "event.tools.range.complete.fraction"
    DELAY = "event.tools.range.delay"  # how many tasks there are from the first missing one to the end


class _NameParameter(Parameter[str]):
    """A name or None."""


class RangeBase(WrapperTask):
    """What all ranges do; a subclass says of which points in time it consists.

    `start` is included, `stop` is not. One of both may be missing: without `stop` a range goes on until now, without
    `start` it goes back as far as its window (and needs `reverse`).
    """

    of = TaskParameter(description="the task for every point in time")
    of_params: Any = DictParameter(default={}, description="further arguments of the task")
    start: Any = Parameter()
    stop: Any = Parameter()
    reverse = BoolParameter(
        default=False,
        description="the newest missing tasks first, instead of the oldest",
    )
    task_limit = IntParameter(
        default=50,
        description="how many missing tasks to require at most; the rest is left for the next time",
    )
    now = IntParameter(default=NONE, description="what to take for the current time, in seconds since 1970 (UTC)")
    param_name = _NameParameter(
        default=NONE,
        description="the parameter that takes the point in time; without it the first positional one",
    )

    window_names: ClassVar[tuple[str, ...]] = ()  # of the parameters that make the window

    _plan: RangePlan | None = None
    _required: list[Any] | None = None
    notes_on_missing: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """As that of any task; what the ranged task conceals is starred among its arguments, too."""
        given = self.of_params
        concealed = [
            name
            for name, parameter in self.of.get_params()
            if name in given and parameter.visibility is not ParameterVisibility.PUBLIC
        ]
        signature = find_signature(type(self))
        if not concealed:
            return signature.describe(self._values)
        shown = {**given, **dict.fromkeys(concealed, CONCEALED)}
        values = dict(zip(signature.names, self._values, strict=True)) | {"of_params": shown}
        return signature.describe(tuple(values.values()))

    # -- what a kind of range says of itself ---------------------------------------------------------------------

    def datetime_to_parameter(self, dt: datetime) -> Any:
        """The value of the task's parameter that stands for a point in time."""
        raise NotImplementedError

    def parameter_to_datetime(self, p: Any) -> datetime:
        """The inverse of `datetime_to_parameter`."""
        raise NotImplementedError

    def moving_start(self, now: datetime) -> datetime:
        """Where the window begins."""
        raise NotImplementedError

    def moving_stop(self, now: datetime) -> datetime:
        """Where the window ends; excluded."""
        raise NotImplementedError

    def finite_datetimes(self, finite_start: datetime, finite_stop: datetime) -> list[datetime]:
        """The points from `finite_start` up to, not including, `finite_stop`, sorted."""
        return list(self.get_grid().points(finite_start, finite_stop))

    def get_grid(self) -> Grid:
        """All points a range of this kind could have. A subclass may override `finite_datetimes` instead."""
        raise NotImplementedError

    def missing_datetimes(self, finite_datetimes: Sequence[datetime]) -> Iterable[datetime]:
        """Those of `finite_datetimes` whose tasks are not complete."""
        tasks = [self._make_task(point) for point in finite_datetimes]
        done = {task.task_id for task in find_complete(tasks)}
        return [point for point, task in zip(finite_datetimes, tasks, strict=True) if task.task_id not in done]

    # -- what it does --------------------------------------------------------------------------------------------

    def requires(self) -> list[Any]:
        """The missing tasks that lie in the window, as many as the limit allows; found out once."""
        if self._required is None:
            self._required = [self._make_task(point) for point in self.account().chosen]
        return self._required

    def account(self) -> RangePlan:
        """What was wanted and what becomes of it; found out once, without making a task outside the window."""
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan

    def forget(self) -> None:
        """Lets `requires()` and `account()` find out anew: time has passed, or tasks have run."""
        self._plan = self._required = None
        self.notes_on_missing = ()

    def refuse_untold(self) -> None:
        """InputError if which of the tasks are done can't be told, or only by a complete() that this range ignores.

        Luigi takes them all for missing then, or all for done. A range that has not been asked yet refuses nothing.
        """
        plan = self._plan
        looked_at = (plan.chosen or plan.done or plan.left_by_limit) if plan is not None else ()
        if plan is None or not looked_at:
            return
        task = self._make_task(looked_at[0])
        refuse_untold(task)
        if self.notes_on_missing and not task.complete():
            kind = type(self).__name__
            raise InputError(
                f"{kind} looks for outputs, and {plan.family} has none: its complete() would not be asked",
                hint=f"{kind}Base asks it, and so does jubako backfill",
            )

    @property
    def of_cls(self) -> Any:
        """Another name of `of`."""
        return self.of

    def datetime_to_parameters(self, dt: datetime) -> dict[str, Any]:
        """All arguments of the task for a point in time."""
        return self._task_parameters(self.datetime_to_parameter(dt))

    def parameters_to_datetime(self, p: dict[str, Any]) -> datetime:
        """The inverse of `datetime_to_parameters`."""
        return self.parameter_to_datetime(p[self._param_name])

    def _make_plan(self) -> RangePlan:
        self._refuse_open_range()
        moment = time.time() if self.now is None else self.now
        now = datetime.fromtimestamp(moment, tz=UTC).replace(tzinfo=None)
        start = None if self.start is None else self.parameter_to_datetime(self.start)
        stop = None if self.stop is None else self.parameter_to_datetime(self.stop)
        window = plan_window(self._points, start, stop, self.moving_start(now), self.moving_stop(now))
        missing = sorted(self._missing_datetimes(list(window.inside))) if window.inside else []
        self._tell(window, missing, start, stop)
        return plan_range(
            self.of_cls.get_task_family(),
            window,
            missing,
            task_limit=self.task_limit,
            reverse=self.reverse,
            settings=tuple((name, getattr(self, name)) for name in (*self.window_names, "task_limit")),
            notes=self.notes_on_missing,
        )

    def _refuse_open_range(self) -> None:
        if not self.start and not self.stop:
            raise ParameterException("At least one of start and stop needs to be specified")
        if not self.start and not self.reverse:
            raise ParameterException("Either start needs to be specified or reverse needs to be True")
        if self.start and self.stop and self.start > self.stop:
            raise ParameterException("Can't have start > stop")

    def _tell(self, window: Window, missing: Sequence[datetime], start: datetime | None, stop: datetime | None) -> None:
        """Triggers the range's events. They count everything between start and stop, as if it were in the window."""
        family = self.of_cls.get_task_family()
        points = self._points(
            window.start if start is None else min(window.start, start),
            window.stop if stop is None else max(window.stop, stop),
        )
        delay = len(points) - bisect_left(points, missing[0]) if points and missing else 0
        complete = len(points) - len(missing)
        self.trigger_event(RangeEvent.DELAY, family, delay)
        self.trigger_event(RangeEvent.COMPLETE_COUNT, family, complete)
        self.trigger_event(RangeEvent.COMPLETE_FRACTION, family, complete / len(points) if points else 1)

    def _points(self, start: datetime, stop: datetime) -> Sequence[datetime]:
        """As `finite_datetimes`, without taking memory where no subclass has made its own."""
        if type(self).finite_datetimes is not RangeBase.finite_datetimes:
            return self.finite_datetimes(start, stop)
        return self.get_grid().points(start, stop)

    def _missing_datetimes(self, finite_datetimes: list[datetime]) -> Iterable[datetime]:
        if len(inspect.signature(self.missing_datetimes).parameters) == 1:
            return self.missing_datetimes(finite_datetimes)
        warnings.warn(
            "In your Range* subclass, missing_datetimes() should only take 1 argument (see latest docs)", stacklevel=2
        )
        old_form: Any = self.missing_datetimes
        found: Iterable[datetime] = old_form(self.of_cls, finite_datetimes)
        return found

    @property
    def _param_name(self) -> str:
        if self.param_name is not None:
            return self.param_name
        return next(name for name, parameter in self.of_cls.get_params() if parameter.positional)

    def _task_parameters(self, param: Any) -> dict[str, Any]:
        return {**self.of_params, self._param_name: param}

    def _make_task(self, point: datetime) -> Any:
        return self.of_cls(**self.datetime_to_parameters(point))


class InferredCompleteness:
    """Put in front of a range: asks the task class for all its tasks at once, or looks for their outputs."""

    notes_on_missing: tuple[str, ...]

    def missing_datetimes(self: Any, finite_datetimes: Sequence[datetime]) -> Iterable[datetime]:
        try:
            parameters = [self.datetime_to_parameter(point) for point in finite_datetimes]
            complete = ask_bulk_complete(self.of_cls, self.of_params, parameters)
            done = {self.parameter_to_datetime(parameter) for parameter in complete}
            return [point for point in finite_datetimes if point not in done]
        except NotImplementedError:
            missing = infer_bulk_complete_from_fs(finite_datetimes, self._make_task)
        if not missing and not flatten_output(self._make_task(finite_datetimes[0])):
            self.notes_on_missing = (
                f"{self.of_cls.get_task_family()} has no outputs: none is missing, so all count as done",
            )
        return missing
