"""`jubako status`: a calendar of a dated task, a letter for every day, hour or month, by what it stands at."""

from __future__ import annotations

import datetime
import shutil
from collections import Counter

import click

from jubako.cli.declare import format_option
from jubako.cli.document import Document, Format
from jubako.cli.formats import echo_document
from jubako.cli.parameter_words import ask_which_task, told_form_of
from jubako.cli.past import open_own_history
from jubako.cli.pipeline_command import PipelineCommand, get_asked, pipeline_arguments, read_parameters, refusals_of
from jubako.cli.run_options import disable_after_option, make_judge
from jubako.cli.terminal import echo, printable, style

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from jubako.flow.explain.status import State, Stretch
    from jubako.flow.parameters import Parameter
    from jubako.flow.tasks.task import Task

__all__ = ["status"]

_SPANS = 3  # named for each state
_COLOURS: dict[State, str] = {
    "done": "green",
    "owed": "cyan",
    "unrecorded": "cyan",
    "running": "blue",
    "disabled": "grey",
    "missing": "yellow",
    "gone": "magenta",
    "failed": "red",
    "broken": "red",
}
_STANDING_OUT: tuple[State, ...] = ("running", "gone", "failed", "broken")
_MEANINGS: dict[State, str] = {
    "done": "done",
    "owed": "done, after_publish() is owed",
    "unrecorded": "there, not recorded as done",
    "running": "a run is at work on it",
    "disabled": "disabled",
    "missing": "missing",
    "gone": "recorded done, gone since",
    "failed": "failed",
    "broken": "cannot be asked",
}

_EPILOG = """\b
Examples:
  jubako status examples/weather DailySummary --year 2010
  jubako status examples/weather DailySummary --from 2010-03-01 --to 2010-04-01 --format json"""


class _StatusCommand(PipelineCommand):
    """Shows the parameter that the calendar is about as such."""

    def about_parameter(self, task: type[Task], name: str, parameter: Parameter[Any]) -> str:
        from jubako.flow.backfills.backfill import is_dated

        return "[what the calendar shows]" if is_dated(parameter) else super().about_parameter(task, name, parameter)


@click.command(cls=_StatusCommand, epilog=_EPILOG)
@pipeline_arguments
@click.option("--from", "start", metavar="DATE", help="The first one; else the first that is recorded.")
@click.option("--to", "stop", metavar="DATE", help="Where to stop; itself not shown.")
@click.option("--month", "month", metavar="YYYY-MM", help="That month.")
@click.option("--year", "year", metavar="YYYY", help="That year.")
@disable_after_option
@format_option
@click.pass_context
def status(
    ctx: click.Context,
    /,
    start: str | None,
    stop: str | None,
    month: str | None,
    year: str | None,
    disable_after: tuple[int, ...],
    format_: Format,
    **_: str,
) -> int:
    """Show what a dated TASK of PIPELINE stands at, as a calendar. Without a range, all that is recorded.

    What is done is seen from its outputs; the history adds what failed and what runs.
    """
    asked = get_asked(ctx)
    assert asked.pipeline is not None  # PIPELINE is required, and what can't be loaded was refused while parsing
    if asked.task is None:
        return ask_which_task(asked.pipeline, format_)
    if sum(given is not None for given in (start or stop, month, year)) > 1:
        raise click.UsageError("Say one of --from and --to, --month, or --year.")

    from jubako.flow.backfills.backfill import Wanted, find_dated_parameter
    from jubako.flow.explain.status import Recorded, States, join_stretches
    from jubako.flow.explain.status_range import list_shown, parse_ends
    from jubako.flow.ledger.partitions import find_unit

    family = asked.task.get_task_family()
    name, parameter = find_dated_parameter(asked.task, [name for name, text in asked.texts.items() if text])
    others = read_parameters(asked, but=name)
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)  # dates and hours of pipelines are UTC's
    with told_form_of(parameter):
        ends = parse_ends(family, parameter, start=start, stop=stop, month=month, year=year)
    with open_own_history() as past, refusals_of(asked.task):
        (some,) = Wanted(asked.task, name, [parameter.normalize(now)], others).tasks()
        recorded = Recorded(past, asked.pipeline.file, family).find_ends(some)
        values = list_shown(family, parameter, ends, recorded, now)
        judge = make_judge(past, asked.pipeline.file, disable_after)
        standing = States(past, asked.pipeline.file, family, judge)
        chunks = Wanted(asked.task, name, values, others).chunks()
        states = [state for _, tasks in chunks for state in standing.look(tasks)]
    stretches = join_stretches(values, states)
    if format_ == "table":
        _echo_calendar(values, states, find_unit(parameter) or "day")
        _echo_legend(parameter, stretches)
    else:
        facts = {"task": family, "parameter": name, "parameters": _describe_others(asked.task, others)}
        _echo_stretches(parameter, stretches, facts, format_)
    return 0


def _echo_calendar(values: Sequence[Any], states: Sequence[State], unit: str) -> None:
    from jubako.cli.calendar import draw_calendar

    drawing = draw_calendar(values, states, unit, width=shutil.get_terminal_size().columns, paint=_paint)
    for line in drawing.lines:
        echo(line)
    if drawing.unit != unit:
        echo(f"\nThere are too many {unit}s: each letter is a {drawing.unit}, and the worst in it.")
    echo("")


def _echo_legend(parameter: Parameter[Any], stretches: Sequence[Stretch]) -> None:
    """A line for each state that occurs: its letter, how many, and where, but for what is simply done."""
    from jubako.flow.explain.status import STATES

    counts = _count(stretches)
    width = len(f"{max(counts.values()):,}")
    meanings = max(len(_MEANINGS[state]) for state in counts)
    for state in STATES:
        if state not in counts:
            continue
        spans = [_describe(parameter, stretch) for stretch in stretches if stretch.state == state]
        more = f" and {len(spans) - _SPANS} more" if len(spans) > _SPANS else ""
        where = "" if state == "done" and len(counts) > 1 else f"  {', '.join(spans[:_SPANS])}{more}"
        echo(f"{_paint(state)}  {_MEANINGS[state]:<{meanings}}  {counts[state]:>{width},}{printable(where)}".rstrip())


def _paint(state: State) -> str:
    from jubako.cli.calendar import MARKS

    return style(MARKS[state], _COLOURS[state], bold=state in _STANDING_OUT)


def _echo_stretches(
    parameter: Parameter[Any], stretches: Sequence[Stretch], facts: Mapping[str, object], format_: Format
) -> None:
    rows = [
        {
            "from": parameter.serialize(stretch.first),
            "to": parameter.serialize(stretch.last),
            "state": stretch.state,
            "count": stretch.count,
        }
        for stretch in stretches
    ]
    counts = _count(stretches)
    whole = {**facts, "wanted": sum(counts.values()), "counts": dict(counts)}
    echo_document(Document("jubako.status/1", ("from", "to", "state", "count"), rows, whole, "intervals"), format_)


def _describe_others(task: type[Task], others: Mapping[str, object]) -> dict[str, str]:
    """The values that were given, as text; concealed ones are left out."""
    from jubako.flow.parameters import ParameterVisibility

    return {
        name: parameter.serialize(others[name])
        for name, parameter in task.get_params()
        if name in others and parameter.visibility is ParameterVisibility.PUBLIC
    }


def _describe(parameter: Parameter[Any], stretch: Stretch) -> str:
    first, last = parameter.serialize(stretch.first), parameter.serialize(stretch.last)
    return first if first == last else f"{first}...{last}"


def _count(stretches: Sequence[Stretch]) -> Counter[State]:
    counts: Counter[State] = Counter()
    for stretch in stretches:
        counts[stretch.state] += stretch.count
    return counts
