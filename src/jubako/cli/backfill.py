"""`jubako backfill PIPELINE TASK --from D --to D`: one dated task for every date of a range, however long."""

from __future__ import annotations

import click

from jubako.cli.document import Document, Format
from jubako.cli.exits import EXIT_USAGE
from jubako.cli.formats import echo_document
from jubako.cli.main import is_debugging
from jubako.cli.parameter_words import echo_tasks, told_form_of
from jubako.cli.pipeline_command import PipelineCommand, get_asked, pipeline_arguments, read_parameters, refusals_of
from jubako.cli.report import echo_report, get_exit_code
from jubako.cli.run_options import make_run_options, run_options
from jubako.cli.terminal import echo, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from jubako.cli.progress import Display
    from jubako.flow.backfill import Backfill
    from jubako.flow.observer import RunEvent
    from jubako.flow.parameters import Parameter
    from jubako.flow.task import Task

__all__ = ["backfill"]

_EPILOG = """\b
Examples:
  jubako backfill examples/weather DailySummary --from 2010-01-01 --to 2011-01-01 --dry-run
  jubako backfill examples/weather MonthlySummary --from 2010-01 --to 2010-12 --inclusive

Interrupt it as you like (Ctrl-C, kill -9, a power cut) and run it again: it carries on."""


class _BackfillCommand(PipelineCommand):
    """Shows the parameter that the range is about as such."""

    def about_parameter(self, task: type[Task], name: str, parameter: Parameter[Any]) -> str:
        from jubako.flow.backfill import is_dated

        return "[goes from --from to --to]" if is_dated(parameter) else super().about_parameter(task, name, parameter)


@click.command(cls=_BackfillCommand, epilog=_EPILOG)
@pipeline_arguments
@click.option("--from", "start", metavar="DATE", required=True, help="The first date, hour, month or year.")
@click.option("--to", "stop", metavar="DATE", required=True, help="Where to stop; itself not part of the range.")
@click.option("--inclusive", is_flag=True, help="Make --to part of the range.")
@click.option("--dry-run", is_flag=True, help="Show exactly what would run, and run nothing.")
@click.option("--newest-first", is_flag=True, help="Begin with the newest.")
@run_options
@click.pass_context
def backfill(
    ctx: click.Context, /, start: str, stop: str, inclusive: bool, dry_run: bool, newest_first: bool, **given: Any
) -> int:
    """Run TASK of PIPELINE for every date of a range that is not done yet. There is no hidden limit.

    TASK has a parameter for a day, an hour, a month or a year. Other parameters are given as with 'jubako run'.
    """
    asked = get_asked(ctx)
    assert asked.pipeline is not None  # PIPELINE is required, and what can't be loaded was refused while parsing
    format_: Format = given["format_"]
    if asked.task is None:
        echo_tasks(asked.pipeline, format_)
        echo("Error: which of these tasks? Name it after the pipeline.", err=True)
        return EXIT_USAGE

    from jubako.flow.backfill import Wanted, account_for, find_dated_parameter, plan_backfill, values_between

    family = asked.task.get_task_family()
    name, parameter = find_dated_parameter(asked.task, [name for name, text in asked.texts.items() if text])
    with told_form_of(parameter):
        values = values_between(family, parameter, start, stop, inclusive=inclusive)
    wanted = Wanted(asked.task, name, values, read_parameters(asked, but=name))

    def plan() -> Backfill:
        return plan_backfill(wanted, are_complete=_are_complete, newest_first=newest_first)

    if dry_run:
        with refusals_of(asked.task):
            planned = plan()
        _echo_dry_run(planned, format_)
        return 0

    from jubako.cli.progress import show_progress
    from jubako.flow.runner import run as run_tasks

    with refusals_of(asked.task):
        tasks = wanted.tasks()
    with show_progress(format_) as display:
        planner = _Planner(display, plan)
        result = run_tasks(
            tasks[::-1] if newest_first else tasks, make_run_options(asked.pipeline, given), observer=planner
        )
    echo_report(result, format_, backfill=account_for(planner.plan, result), tracebacks=is_debugging(ctx))
    return get_exit_code(result)


class _Planner:
    """Makes and shows the plan as soon as the run has recovered what an earlier one left: that may be some of it."""

    def __init__(self, display: Display, make_plan: Callable[[], Backfill]) -> None:
        self._display = display
        self._make_plan = make_plan

    def see(self, event: RunEvent) -> None:
        from jubako.flow.observer import RunStarted

        if isinstance(event, RunStarted):
            self.plan = self._make_plan()
            self._display.say(printable(self.plan.describe()))
        self._display.see(event)


def _are_complete(tasks: Sequence[Task]) -> list[bool]:
    """Which are done. One that can't even be asked isn't; the run says why."""
    from jubako.flow.completeness import targets_exist
    from jubako.flow.standing import ask_family

    return [answer is True for answer in ask_family(tasks, targets_exist)]


def _echo_dry_run(plan: Backfill, format_: Format) -> None:
    if format_ == "table":
        echo(printable(plan.describe()))
        for span in plan.spans():
            echo(f"    {printable(span)}")
        return
    to_run, wanted = set(plan.to_run), plan.wanted
    with refusals_of(wanted.family):
        rows = [
            {"value": wanted.parameter.serialize(value), "task": str(task), "to_run": value in to_run}
            for values, tasks in wanted.chunks()
            for value, task in zip(values, tasks, strict=True)
        ]
    facts = {
        "wanted": len(wanted.values),
        "done_before": plan.done_before,
        "to_run": len(to_run),
        "spans": plan.spans(),
    }
    echo_document(Document("jubako.backfill/1", ("value", "task", "to_run"), rows, facts, "tasks"), format_)
