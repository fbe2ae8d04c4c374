"""`jubako run PIPELINE TASK`: run one task and everything it needs, and say what came of it."""

from __future__ import annotations

import click

from jubako.cli.main import is_debugging
from jubako.cli.parameter_words import ask_which_task
from jubako.cli.pipeline_command import PipelineCommand, build_task, get_asked, pipeline_arguments
from jubako.cli.report import echo_report, get_exit_code
from jubako.cli.run_options import make_run_options, run_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.flow.parameters import ValueSource

__all__ = ["run"]

_RANGES = ("RangeDaily", "RangeHourly", "RangeByMinutes", "RangeMonthly")

_EPILOG = """\b
Examples:
  jubako run examples/weather              # lists its tasks, with their parameters
  jubako run examples/weather YearReport --year 2010 --workers 2

What is done is not done again. Exit code 0 says that everything asked for is there."""


@click.command(cls=PipelineCommand, reports=True, epilog=_EPILOG)
@pipeline_arguments
@run_options
@click.option("--now", metavar="SECONDS", type=int, help="What time ranges take it to be, in seconds since 1970.")
@click.pass_context
def run(ctx: click.Context, /, now: int | None, **given: Any) -> int:
    """Run TASK of PIPELINE (a file, a folder or a module) and everything it needs, each task in a box of its own.

    'jubako run PIPELINE TASK --help' lists the parameters of TASK.
    """
    asked = get_asked(ctx)
    assert asked.pipeline is not None  # PIPELINE is required, and what can't be loaded was refused while parsing
    if asked.task is None:
        return ask_which_task(asked.pipeline, given["format_"])

    from jubako.cli.progress import show_progress
    from jubako.flow.parameters import values_from
    from jubako.flow.run.runner import run as run_tasks

    times: ValueSource = {} if now is None else {(family, "now"): str(now) for family in _RANGES}
    with values_from(times):
        task = build_task(asked)
        with show_progress(given["format_"]) as progress:
            result = run_tasks([task], make_run_options(asked.pipeline, given), observer=progress)
    echo_report(result, given["format_"], tracebacks=is_debugging(ctx))
    return get_exit_code(result)
