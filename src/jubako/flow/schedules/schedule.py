"""`@schedule`: says when a task runs by itself, and for which date.

    @schedule(cron="0 6 * * *", timezone="Asia/Tokyo")
    class DailySummary(Task):
        date = DateParameter()              # of a firing on March 15, 06:00 in Tokyo: March 14

    @schedule(cron="30 7 * * MON")
    def reports(moment):                    # 07:30 of a Monday, as a datetime in the schedule's zone
        return [Report(city=city, week=moment.date()) for city in CITIES]

It only takes note of that, on the class or the function itself: `jubako schedule` (`scheduler`) does the rest. What is
wrong is refused where it is written, when the pipeline is imported.

A firing is for the interval that has just ended, because by then its data is there; `date="current"` is for the one
that has begun. Days, months and years are those of the schedule's zone. Hours, minutes and seconds are UTC, as
everywhere in dated parameters: a zone's own have an hour in autumn that two firings would share.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args

from jubako.errors import InputError, JubakoError
from jubako.flow.backfills.backfill import Wanted, is_dated, values_between
from jubako.flow.parameters import DateParameter, Parameter
from jubako.flow.schedules.cron import Cron
from jubako.flow.schedules.firings import Rule
from jubako.flow.schedules.time_zone import find_zone
from jubako.flow.tasks.nesting import flatten
from jubako.flow.tasks.task import Task
from jubako.records import record

if TYPE_CHECKING:
    from jubako.flow.loader import Pipeline

__all__ = ["CatchUp", "Overlap", "Schedule", "find_schedules", "get_schedule", "schedule"]

CatchUp = Literal["latest", "all", "none"]
Overlap = Literal["queue", "skip", "allow"]
Which = Literal["previous", "current"]
F = TypeVar("F", bound=Callable[..., Any])

_MARK: Final = "_jubako_schedules"  # on classes and functions
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "catch_up": get_args(CatchUp),
    "overlap": get_args(Overlap),
    "date": get_args(Which),
}


@record
class Schedule:
    """Something that runs by itself. `make` gives the tasks of a firing, from its moment in the schedule's zone."""

    name: str
    rule: Rule
    catch_up: CatchUp
    overlap: Overlap
    make: Callable[[datetime.datetime], Sequence[Task]]

    def local(self, moment_s: int) -> datetime.datetime:
        """A moment in the schedule's zone."""
        return datetime.datetime.fromtimestamp(moment_s, self.rule.zone)

    def tasks(self, moment_s: int) -> Sequence[Task]:
        """What the firing of this moment runs. What the pipeline's own code raises becomes an InputError."""
        moment = self.local(moment_s)
        try:
            return self.make(moment)
        except JubakoError:
            raise
        except Exception as error:  # the pipeline's own code ran: anything can come out
            raise InputError(
                f"{self.name}: making the tasks of {moment:%Y-%m-%d %H:%M %Z} failed: {type(error).__name__}: {error}",
                hint="--debug shows the traceback",
            ) from error


def schedule(
    cron: str,
    *,
    timezone: str = "UTC",
    catch_up: CatchUp = "latest",
    overlap: Overlap = "queue",
    date: Which = "previous",
    since: str = "",
    name: str = "",
) -> Callable[[F], F]:
    """Decorator of a task class, or of a function that is given the moment of a firing and returns tasks.

    cron       minute, hour, day of month, month, day of week; "0 6 * * *" is every day at 06:00; or "@daily"
    timezone   where that is the time
    catch_up   of firings that were missed (nothing ran, the machine slept), which are made up for: the latest, all
               (a hundred at most, one after the other), none
    overlap    if the run before still goes on: queue (wait for it), skip (drop this one), allow (run beside it)
    date       which value the task's dated parameter gets: that of the interval before the firing's, or of its own
    since      run the tasks of all dates from here up to the firing's that are not done, instead of that one
    name       what the schedule is called; by default as its task or function

    May be used several times, under different names. Raises InputError for what makes no sense.
    """
    if not isinstance(cron, str):  # @schedule without parentheses, in front of a class
        raise InputError(f"cron={cron!r} of a schedule is no text", hint='it is written @schedule(cron="0 6 * * *")')
    for option, value in (("catch_up", catch_up), ("overlap", overlap), ("date", date)):
        if value not in _WORDS[option]:
            raise InputError(f"{option}={value!r} of a schedule is none of {', '.join(_WORDS[option])}")
    rule = Rule(Cron(cron), find_zone(timezone))

    def note(scheduled: F) -> F:
        make: Callable[[datetime.datetime], Sequence[Task]]
        if isinstance(scheduled, type):
            if not issubclass(scheduled, Task):
                raise InputError(f"{scheduled.__name__} is no task, so it can't have a schedule")
            make, usual = _make_dated(scheduled, date, since), scheduled.get_task_family()
        else:
            if since or date != "previous":
                raise InputError("since= and date= are for task classes", hint="the function is given the moment")
            make, usual = _make_by(scheduled), scheduled.__name__
        noted = vars(scheduled).get(_MARK, ())
        setattr(scheduled, _MARK, (Schedule(name or usual, rule, catch_up, overlap, make), *noted))
        return scheduled

    return note


def find_schedules(pipeline: Pipeline) -> dict[str, Schedule]:
    """The schedules of an imported pipeline by name, in the order of the file. InputError if two share a name."""
    marked = {id(value): value for value in vars(sys.modules[pipeline.source.module]).values() if _is_marked(value)}
    found: dict[str, Schedule] = {}
    for each in (each for value in marked.values() for each in vars(value)[_MARK]):
        if each.name in found:
            raise InputError(
                f"{pipeline.source.name} has two schedules called {each.name}", hint='give one another: name="..."'
            )
        found[each.name] = each
    return found


def get_schedule(pipeline: Pipeline, name: str) -> Schedule:
    """The schedule called `name`; InputError, with those there are, if there is none."""
    schedules = find_schedules(pipeline)
    if name not in schedules:
        raise InputError(
            f"there is no schedule {name!r} in {pipeline.source.name}",
            hint=f"it has {', '.join(schedules)}" if schedules else "a task or a function gets one by @schedule(...)",
        )
    return schedules[name]


def _is_marked(value: object) -> bool:
    return callable(value) and _MARK in getattr(value, "__dict__", ())


def _make_by(function: Callable[..., Any]) -> Callable[[datetime.datetime], Sequence[Task]]:
    """Tasks by a function of the pipeline's."""

    def make(moment: datetime.datetime) -> Sequence[Task]:
        tasks = flatten(function(moment))
        wrong = [task for task in tasks if not isinstance(task, Task)]
        if wrong:
            raise InputError(
                f"{function.__name__} returned {wrong[0]!r}, which is no task",
                hint="a scheduled function returns tasks: one, or a list of them",
            )
        return tasks

    return make


def _make_dated(family: type[Task], which: Which, since: str) -> Callable[[datetime.datetime], Sequence[Task]]:
    """Tasks of a class, for the date of a firing."""
    name = _find_dated_parameter(family)
    task = family.get_task_family()
    needed = [
        other for other, parameter in family.get_params() if other != name and not parameter.has_task_value(task, other)
    ]
    if needed:
        raise InputError(
            f"the schedule of {task} can't know its {' and '.join(needed)}",
            hint="schedule a function that makes the tasks: def tasks_at(moment): return [...]",
        )
    if name is None:
        if since or which != "previous":
            raise InputError(f"{task} has no parameter for a date, which since= and date= are about")
        return lambda _moment: [family()]
    parameter = dict(family.get_params())[name]
    if not since:
        return lambda moment: [family(**{name: _date_of(parameter, moment, which)})]
    values_between(task, parameter, since, since, inclusive=True)  # refuses what is no date, now

    def make(moment: datetime.datetime) -> Sequence[Task]:
        value = _date_of(parameter, moment, which)
        if value < parameter.parse(since):
            return []
        values = values_between(task, parameter, since, parameter.serialize(value), inclusive=True)
        return Wanted(family, name, values, {}).tasks()

    return make


def _find_dated_parameter(family: type[Task]) -> str | None:
    """The one a firing fills: the dated one, or of several the one that has no value of its own."""
    dated = [(name, parameter) for name, parameter in family.get_params() if is_dated(parameter)]
    if len(dated) > 1:
        task = family.get_task_family()
        names = " and ".join(name for name, _ in dated)
        dated = [(name, parameter) for name, parameter in dated if not parameter.has_task_value(task, name)]
        if len(dated) != 1:
            raise InputError(
                f"{task} has several parameters for a date, {names}",
                hint="give all but one a default, or schedule a function that makes the tasks",
            )
    return dated[0][0] if dated else None


def _date_of(parameter: Parameter[Any], moment: datetime.datetime, which: Which) -> Any:
    """The value of a dated parameter for a firing."""
    if isinstance(parameter, DateParameter):
        current, least = parameter.normalize(moment.date()), datetime.timedelta(days=1)
    else:
        in_utc = moment.astimezone(datetime.UTC).replace(tzinfo=None)
        current, least = parameter.normalize(in_utc), datetime.timedelta(seconds=1)
    return current if which == "current" else parameter.normalize(current - least)
