"""What is said of schedules: the list of what comes next, and the lines of a scheduler at work."""

from __future__ import annotations

import datetime
import signal

from jubako.cli.document import Document, Format
from jubako.cli.formats import echo_document
from jubako.cli.terminal import echo, printable
from jubako.flow.accounting import format_seconds
from jubako.flow.schedules.schedule_plan import GRACE_S, QUEUE_LIMIT
from jubako.flow.schedules.scheduler import Begun, Behind, Cancelling, Ended, GivenUp, Started, Stopping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.flow.schedules.schedule import Schedule
    from jubako.flow.schedules.schedule_plan import Dropped
    from jubako.flow.schedules.scheduler import SchedulerEvent
    from jubako.flow.tasks.task import Task

__all__ = ["SchedulerLines", "echo_next_firings"]

_COLUMNS = ("schedule", "local", "utc", "runs")


def echo_next_firings(firings: Sequence[tuple[Schedule, int, Sequence[Task]]], format_: Format) -> None:
    """Prints firings, each a schedule, a moment and the tasks it would run, in the order of time."""
    rows = [
        {
            "schedule": schedule.name,
            "local": _local(schedule, moment_s),
            "utc": f"{_utc(moment_s):%Y-%m-%d %H:%M}",
            "runs": _describe_tasks(tasks),
        }
        for schedule, moment_s, tasks in sorted(firings, key=lambda firing: firing[1])
    ]
    echo_document(Document("jubako.schedule/1", _COLUMNS, rows, {}, "firings"), format_)


class SchedulerLines:
    """A line for each event; `err`: on stderr, because what the runs print goes to stdout."""

    def __init__(self, *, err: bool) -> None:
        self._err = err

    def tell(self, event: SchedulerEvent) -> None:
        echo(printable(_describe(event)), err=self._err)
        if hint := _find_hint(event):
            echo(f"hint: {printable(hint)}", err=True)


def _describe_tasks(tasks: Sequence[Task]) -> str:
    """What a firing runs: "Daily(date=2026-03-13)", "Daily(date=2026-01-01) and 71 more"."""
    if not tasks:
        return "nothing"
    return f"{tasks[0]}{f' and {len(tasks) - 1} more' if len(tasks) > 1 else ''}"


def _describe(event: SchedulerEvent) -> str:
    match event:
        case Begun(schedule, next_s, is_known):
            coming = f"next {_both(schedule, next_s)}" if next_s is not None else "never again"
            return f"{schedule.name}: {schedule.rule.text}, {coming}{'' if is_known else ', from now on'}"
        case Behind(schedule, now_s, until_s):
            return (
                f"{schedule.name}: the clock says {_both(schedule, now_s)}, and firings up to "
                f"{_both(schedule, until_s)} were looked at before: nothing is started until then"
            )
        case Started(schedule, moment_s):
            return f"{schedule.name} {_local(schedule, moment_s)}: started"
        case Ended(schedule, moment_s, code, wall_s, problem):
            return f"{schedule.name} {_local(schedule, moment_s)}: {_ending(code, problem)}, {format_seconds(wall_s)}"
        case GivenUp(schedule, dropped):
            return f"{schedule.name}: {_count(schedule, dropped)} {_reason(schedule, dropped)}"
        case Stopping(running, waiting):
            left = f"; {waiting} waiting, missed when it starts again" if waiting else ""
            if not running:
                return f"stopping{left}"
            return f"stopping when {running} run{'s' if running > 1 else ''} ended; once more to cancel{left}"
        case Cancelling(running):
            return f"asked {running} run{'s' if running > 1 else ''} to end"


def _find_hint(event: SchedulerEvent) -> str:
    match event:
        case GivenUp(_, dropped) if dropped.why != "busy":
            return "'jubako backfill' runs the dates that are missing, --fire NAME --at MOMENT a single firing"
        case Behind():
            return "if the clock was wrong then, give the schedule another name, and it begins anew"
    return ""


def _reason(schedule: Schedule, dropped: Dropped) -> str:
    match dropped.why:
        case "missed":
            return f"missed by more than {GRACE_S} s and not made up for (catch_up={schedule.catch_up})"
        case "busy":
            return f"dropped, the run before still goes on (overlap={schedule.overlap})"
        case "limit":
            return f"given up, more than {QUEUE_LIMIT} were waiting"


def _count(schedule: Schedule, dropped: Dropped) -> str:
    first, last = (_local(schedule, moment_s) for moment_s in (dropped.moments[0], dropped.moments[-1]))
    count = len(dropped.moments)
    return f"1 firing ({first})" if count == 1 else f"{count} firings ({first}...{last})"


def _ending(code: int, problem: str) -> str:
    if problem:
        return f"FAILED (could not be started: {problem})"
    if code < 0:
        return f"FAILED (killed by {signal.Signals(-code).name})"
    return f"FAILED (exit code {code})" if code else "done"


def _both(schedule: Schedule, moment_s: int) -> str:
    local, utc = _local(schedule, moment_s), f"{_utc(moment_s):%Y-%m-%d %H:%M} UTC"
    return local if local == utc else f"{local} ({utc})"


def _local(schedule: Schedule, moment_s: int) -> str:
    return f"{schedule.local(moment_s):%Y-%m-%d %H:%M %Z}"


def _utc(moment_s: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(moment_s, datetime.UTC)
