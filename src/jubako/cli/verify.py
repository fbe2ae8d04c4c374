"""`jubako verify`: makes what is done again in a fresh box and compares it with what is published."""

from __future__ import annotations

import click

from jubako.cli.declare import format_option
from jubako.cli.document import Format
from jubako.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED
from jubako.cli.parameter_words import ask_which_task, told_form_of
from jubako.cli.pipeline_command import (
    Asked,
    PipelineCommand,
    build_task,
    get_asked,
    pipeline_arguments,
    read_parameters,
    refusals_of,
)
from jubako.cli.run_options import read_workers
from jubako.cli.terminal import printable
from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal
    from typing import Any

    from jubako.flow.tasks.task import Task
    from jubako.verify.tolerance import Tolerance

__all__ = ["verify"]

_EPILOG = """\b
Examples:
  jubako verify examples/weather DailySummary --date 2010-03-14
  jubako verify examples/weather DailySummary --from 2010-01-01 --to 2011-01-01 --sample 5%

Exit code 0: all of it agrees. 1: something is different, or cannot be compared."""


def _read_tolerance(text: str) -> Decimal:
    from decimal import Decimal, InvalidOperation  # 2 ms, for those who use it

    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal(-1)
    if not (number.is_finite() and number >= 0):
        raise click.BadParameter(f"{text!r} is not a number of 0 or more, as in 1e-9")
    return number


@click.command(cls=PipelineCommand, epilog=_EPILOG)
@pipeline_arguments
@click.option("--from", "start", metavar="DATE", help="Verify a range of dates: the first.")
@click.option("--to", "stop", metavar="DATE", help="Where it stops; itself not part of it.")
@click.option("--inclusive", is_flag=True, help="Make --to part of the range.")
@click.option("--sample", metavar="N|P%", help="Only so many of the range, drawn at random.")
@click.option("--seed", metavar="N", type=int, help="Draw the sample that was drawn with it.")
@click.option(
    "--relative", metavar="X", type=_read_tolerance, help="How far numbers may be apart: times the published."
)
@click.option("--absolute", metavar="X", type=_read_tolerance, help="The same as a number; both add up.")
@click.option("--ignore", metavar="NAME", multiple=True, help="A column or member not to compare ($.a.b too).")
@click.option(
    "--workers", metavar="N|auto", type=read_workers, default="1", help="Tasks at a time (1); auto: one per CPU."
)
@click.option("--keep", metavar="FOLDER", type=click.Path(), default="", help="Keep what comes out different there.")
@click.option("--html", metavar="FILE", type=click.Path(dir_okay=False), default="", help="Write a page of it, too.")
@format_option
@click.pass_context
def verify(ctx: click.Context, /, format_: Format, workers: int, ignore: tuple[str, ...], **given: Any) -> int:
    """Make TASK of PIPELINE again in a fresh box, and compare each output with the published one.

    Nothing is published and nothing is left. Parameters are given as with 'jubako run'.
    """
    asked = get_asked(ctx)
    assert asked.pipeline is not None  # PIPELINE is required, and what can't be loaded was refused while parsing
    if asked.task is None:
        return ask_which_task(asked.pipeline, format_)

    from jubako.cli.progress import show_progress
    from jubako.cli.verify_report import echo_verification, write_verification
    from jubako.flow.options import RunOptions
    from jubako.flow.verifying.verify_tasks import verify_tasks

    chosen = _choose(ctx, asked, given)
    options = RunOptions(workers=workers, pipeline=asked.pipeline, backfill=chosen.label)
    with show_progress(format_) as display:
        if chosen.plan:
            display.say(printable(chosen.plan))
        tolerance = _make_tolerance(given["relative"], given["absolute"])
        found = verify_tasks(
            chosen.tasks, options, tolerance=tolerance, ignore=ignore, keep_in=given["keep"], observer=display
        )
    echo_verification(found, format_, facts=chosen.facts, is_single=not chosen.facts)
    if given["html"]:
        write_verification(found, given["html"], title=chosen.label or str(chosen.tasks[0]), plan=chosen.plan)
    if found.is_interrupted:
        return EXIT_INTERRUPTED
    return 0 if found and not chosen.lacks else EXIT_FAILED


@record
class _Chosen:
    """The tasks to verify; of a range how they were chosen, in a line and as data. `lacks`: some were to be done."""

    tasks: Sequence[Task]
    label: str = ""
    plan: str = ""
    facts: dict[str, object] | None = None
    lacks: bool = False


def _choose(ctx: click.Context, asked: Asked, given: dict[str, Any]) -> _Chosen:
    assert asked.task is not None  # the command checked it before
    if given["start"] is None and given["stop"] is None:
        for name in ("sample", "seed", "inclusive"):
            if given[name] not in (None, False):
                raise click.UsageError(f"--{name} goes with a range: --from and --to.", ctx)
        return _Chosen([build_task(asked)])
    for flag, value in (("--from", given["start"]), ("--to", given["stop"])):
        if value is None:
            raise click.MissingParameter(ctx=ctx, param_hint=f"'{flag}'", param_type="option")
    if given["seed"] is not None and given["sample"] is None:
        raise click.UsageError("--seed goes with --sample.", ctx)

    from jubako.flow.backfills.backfill import Wanted, find_dated_parameter, format_spans, plan_backfill, values_between
    from jubako.flow.graph.completeness import targets_exist
    from jubako.flow.graph.standing import ask_family
    from jubako.flow.verifying.verification import draw_sample

    name, parameter = find_dated_parameter(asked.task, [name for name, text in asked.texts.items() if text])
    with told_form_of(parameter):
        values = values_between(
            asked.task.get_task_family(), parameter, given["start"], given["stop"], inclusive=given["inclusive"]
        )
    wanted = Wanted(asked.task, name, values, read_parameters(asked, but=name))
    with refusals_of(asked.task):
        plan = plan_backfill(
            wanted, are_complete=lambda tasks: [answer is True for answer in ask_family(tasks, targets_exist)]
        )
    missing = set(plan.to_run)
    done = [value for value in values if value not in missing]
    facts: dict[str, object] = {
        "wanted": len(values),
        "done": len(done),
        "not_done": format_spans(parameter, plan.to_run),
        "sample": given["sample"],
        "seed": None,
    }
    text = f"{wanted.label}: {len(values)} wanted, {len(done)} done"
    if given["sample"] is not None:
        seed = _make_seed() if given["seed"] is None else given["seed"]
        done = draw_sample(done, given["sample"], seed)
        facts["seed"] = seed
        text += f", {len(done)} of them to verify (seed {seed})"
    if missing:
        shown = ", ".join(format_spans(parameter, plan.to_run)[:3])
        text += f"; {len(missing)} not done: {shown}{' ...' if len(missing) > 3 else ''}"
    if not done:
        raise InputError(f"{wanted.label}: nothing of it is done, so there is nothing to verify")
    with refusals_of(asked.task):
        return _Chosen(wanted.tasks(done), wanted.label, text, facts, lacks=bool(missing) and given["sample"] is None)


def _make_seed() -> int:
    import secrets

    return secrets.randbelow(1_000_000)


def _make_tolerance(relative: Decimal | None, absolute: Decimal | None) -> Tolerance | None:
    """The tolerance that was asked for; None: what the task says."""
    from jubako.verify.tolerance import Tolerance

    if relative is None and absolute is None:
        return None
    return Tolerance(absolute or 0, relative or 0)
