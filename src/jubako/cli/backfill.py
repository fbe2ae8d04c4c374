"""`jubako backfill PIPELINE TASK --from D --to D`: one dated task for every date of a range, however long."""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial

import click

from jubako.cli.backfill_control import control_backfills, control_options
from jubako.cli.document import Document, Format
from jubako.cli.exits import EXIT_FAILED
from jubako.cli.formats import echo_document
from jubako.cli.main import is_debugging
from jubako.cli.parameter_words import ask_which_task, told_form_of
from jubako.cli.pipeline_command import (
    Asked,
    PipelineCommand,
    get_asked,
    pipeline_arguments,
    read_parameters,
    refusals_of,
)
from jubako.cli.report import echo_report, get_exit_code
from jubako.cli.run_options import make_run_options, run_options
from jubako.cli.terminal import echo, printable
from jubako.errors import InputError
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Literal

    from click.shell_completion import CompletionItem

    from jubako.cli.pipeline_command import Asked
    from jubako.cli.progress import Display
    from jubako.flow.backfills.backfill import Backfill, Wanted
    from jubako.flow.loader import Pipeline
    from jubako.flow.observer import RunEvent
    from jubako.flow.parameters import Parameter
    from jubako.flow.tasks.task import Task

__all__ = ["backfill"]

_MANY = 100_000

_EPILOG = """\b
Examples:
  jubako backfill examples/weather DailySummary --from 2010-01-01 --to 2011-01-01 --dry-run
  jubako backfill examples/weather MonthlySummary --from 2010-01 --to 2010-12 --inclusive

Interrupt it as you like (Ctrl-C, kill -9, a power cut) and run it again: it
carries on. --config, --metrics-file and --lineage are those of 'jubako run'."""


class _BackfillCommand(PipelineCommand):
    """Shows the parameter that the range is about as such."""

    def about_parameter(self, task: type[Task], name: str, parameter: Parameter[Any]) -> str:
        from jubako.flow.backfills.backfill import is_dated

        return "[goes from --from to --to]" if is_dated(parameter) else super().about_parameter(task, name, parameter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        ranged = self._find_ranged(get_asked(ctx))
        return [item for item in super().shell_complete(ctx, incomplete) if item.value != ranged]

    def _find_ranged(self, asked: Asked) -> str:
        """The option of the parameter that --from and --to stand for, "--date"; "" where it is not known yet."""
        from jubako.flow.backfills.backfill import find_dated_parameter

        if asked.task is None:
            return ""
        try:
            name, _ = find_dated_parameter(asked.task, asked.texts)
        except InputError:
            return ""
        return asked.flags[name]


@click.command(cls=_BackfillCommand, reports=True, epilog=_EPILOG)
@partial(pipeline_arguments, required=False)
@click.option("--from", "start", metavar="DATE", help="The first date, hour, month or year.")
@click.option("--to", "stop", metavar="DATE", help="Where to stop; itself not part of the range.")
@click.option("--inclusive", is_flag=True, help="Make --to part of the range.")
@click.option("--dry-run", is_flag=True, help="Show exactly what would run, and run nothing.")
@click.option("--newest-first", is_flag=True, help="Begin with the newest.")
@click.option(
    "--redo",
    metavar="missing|failed|all",
    type=click.Choice(["missing", "failed", "all"]),
    default="missing",
    help="Run what is missing, what failed, or all.",
)
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), help="Run N dates at most; the rest counts as missing."
)
@click.option("--downstream", is_flag=True, help="Run what depends on these dates too.")
@click.option("--yes", is_flag=True, help="Do not ask before a very long range.")
@control_options
@partial(run_options, shows_reporting=False)
@click.pass_context
def backfill(ctx: click.Context, /, dry_run: bool, **given: Any) -> int:
    """Run TASK of PIPELINE for every date of a range that is not done yet. There is no hidden limit.

    TASK has a parameter for a day, an hour, a month or a year. Other parameters are given as with 'jubako run'.
    """
    asked = get_asked(ctx)
    format_: Format = given["format_"]
    if control_backfills(ctx, given, format_):
        return 0
    if asked.pipeline is None:  # what can't be loaded was refused while parsing
        raise click.MissingParameter(ctx=ctx, param_hint="'PIPELINE'", param_type="argument")
    if asked.task is None:
        return ask_which_task(asked.pipeline, format_)
    wish = _take_wish(ctx, given)
    wanted = _find_wanted(asked, wish, asks=not (dry_run or wish.yes))
    make_plan: Callable[[], Backfill] = partial(_make_plan, wish, wanted, asked.pipeline)
    with refusals_of(asked.task):
        below = _find_downstream(wanted, asked.pipeline) if wish.downstream else ()
        plan = make_plan() if dry_run or wish.leaves_out else None
        if dry_run and given["stale"] and plan is not None:
            plan = _add_stale(plan, asked.pipeline, says=True)
    if dry_run and plan is not None:
        _echo_dry_run(plan, below if wish.redo == "all" else _find_missing(below), format_)
        return 0

    from jubako.cli.progress import show_progress
    from jubako.flow.backfills.backfill import account_for
    from jubako.flow.run.runner import run as run_tasks

    with refusals_of(asked.task):
        tasks = wanted.tasks(None if plan is None else plan.to_run)
    in_order = [*(tasks[::-1] if wish.newest_first else tasks), *below]
    redo = in_order if wish.redo == "all" else ()
    options = make_run_options(asked.pipeline, given, backfill=wanted.label, redo=redo)
    with show_progress(format_) as display:
        # Where some of what is missing may be left out, which that is was decided before the run has recovered what an
        # earlier one left. It may find a few of them done then, and does not run others instead.
        if given["stale"]:
            make_plan = partial(_plan_stale, make_plan, asked.pipeline)
        planner = _Planner(display, make_plan if plan is None else lambda: plan, below)
        result = run_tasks(in_order, options, observer=planner)
    account = account_for(planner.plan, result)
    echo_report(result, format_, backfill=account, tracebacks=is_debugging(ctx))
    code = get_exit_code(result)
    return EXIT_FAILED if code == 0 and account.over_limit else code


@record
class _Wish:
    """What a backfill is asked for beside the task; fields are named as their options."""

    start: str
    stop: str
    inclusive: bool
    newest_first: bool
    redo: Literal["missing", "failed", "all"]
    limit: int | None
    downstream: bool
    yes: bool

    @property
    def leaves_out(self) -> bool:
        """True if some of what is missing may be left alone."""
        return self.redo == "failed" or self.limit is not None


def _take_wish(ctx: click.Context, given: dict[str, Any]) -> _Wish:
    """Takes it out of what click passed to the command."""
    for flag, value in (("--from", given["start"]), ("--to", given["stop"])):
        if value is None:
            raise click.MissingParameter(ctx=ctx, param_hint=f"'{flag}'", param_type="option")
    wish = _Wish(**{name: given.pop(name) for name in _Wish.__match_args__})
    if wish.downstream and wish.leaves_out:
        raise click.UsageError("--downstream runs what needs the whole range: not with --limit or --redo failed.")
    if given["stale"] and (wish.limit is not None or wish.redo != "missing"):
        raise click.UsageError("--stale says itself what is run again: not with --limit or --redo.")
    return wish


def _find_wanted(asked: Asked, wish: _Wish, *, asks: bool) -> Wanted:
    """The range; one of very many dates is asked about first."""
    from jubako.flow.backfills.backfill import Wanted, find_dated_parameter, values_between
    from jubako.flow.targets.outputs import refuse_untold

    assert asked.task is not None  # the command checked it before
    family = asked.task.get_task_family()
    name, parameter = find_dated_parameter(asked.task, [name for name, text in asked.texts.items() if text])
    with told_form_of(parameter):
        values = values_between(family, parameter, wish.start, wish.stop, inclusive=wish.inclusive)
    if len(values) > _MANY and asks:
        _ask_for_many(len(values), f"{family} from {wish.start} to {wish.stop}")
    wanted = Wanted(asked.task, name, values, read_parameters(asked, but=name))
    with refusals_of(asked.task):
        refuse_untold(wanted.tasks(values[:1])[0])
    return wanted


def _ask_for_many(count: int, what: str) -> None:
    """Asks a person whether so many are meant; refuses where there is none to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(f"{what} are {count:,} tasks", hint="if that is meant, say so: --yes")
    click.confirm(f"{what} are {count:,} tasks. Go on?", abort=True, err=True)


def _make_plan(wish: _Wish, wanted: Wanted, pipeline: Pipeline) -> Backfill:
    from jubako.flow.backfills.backfill import plan_backfill

    plan = partial(
        plan_backfill,
        wanted,
        are_complete=_are_complete,
        redo_done=wish.redo == "all",
        limit=wish.limit,
        newest_first=wish.newest_first,
    )
    if wish.redo != "failed":
        return plan()

    from jubako.cli.past import open_own_history
    from jubako.flow.explain.status import States

    with open_own_history() as past:
        states = States(past, pipeline.file, wanted.family.get_task_family())
        return plan(have_failed=states.have_failed)


def _plan_stale(make_plan: Callable[[], Backfill], pipeline: Pipeline) -> Backfill:
    return _add_stale(make_plan(), pipeline, says=False)  # the run says it


def _add_stale(plan: Backfill, pipeline: Pipeline, *, says: bool) -> Backfill:
    """The plan with what is done and would be run again because it is stale, or may be."""
    import time

    from jubako.cli.past import open_own_history
    from jubako.flow.staleness.stale import find_stale_by_history

    with open_own_history() as past:
        found = find_stale_by_history(plan.wanted.tasks(), past, pipeline.file, time.time())
    for line in found.describe() if says else ():
        echo(f"note: {printable(line)}", err=True)
    values = (plan.wanted.value_of(task) for task in (*found.stale, *found.below))
    again = {value for value in values if value is not None}
    return replace(plan, to_run=sorted(again.union(plan.to_run)))


class _Planner:
    """Makes and shows the plan as soon as the run has recovered what an earlier one left: that may be some of it."""

    def __init__(self, display: Display, make_plan: Callable[[], Backfill], below: Sequence[Task]) -> None:
        self._display = display
        self._make_plan = make_plan
        self._below = below

    def see(self, event: RunEvent) -> None:
        from jubako.flow.observer import RunStarted

        if isinstance(event, RunStarted):
            self.plan = self._make_plan()
            self._display.say(printable(self.plan.describe()))
            if self._below:
                self._display.say(printable(_describe_downstream(self._below)))
        self._display.see(event)


def _are_complete(tasks: Sequence[Task]) -> list[bool]:
    """Which are done. One that can't even be asked isn't; the run says why."""
    from jubako.flow.graph.completeness import targets_exist
    from jubako.flow.graph.standing import ask_family

    return [answer is True for answer in ask_family(tasks, targets_exist)]


def _find_downstream(wanted: Wanted, pipeline: Pipeline) -> Sequence[Task]:
    """What depends on the range; what could not be looked at is said."""
    from jubako.flow.backfills.downstream import find_downstream

    found = find_downstream(wanted, pipeline.tasks.values())
    for text in found.left_out:
        echo(f"note: {printable(text)}", err=True)
    return found.tasks


def _describe_downstream(tasks: Sequence[Task]) -> str:
    counts = Counter(task.get_task_family() for task in tasks)
    return f"downstream: {', '.join(f'{count} {family}' for family, count in counts.items())}"


def _find_missing(tasks: Sequence[Task]) -> list[Task]:
    """Those of `tasks`, of any classes, that are not done."""
    from jubako.flow.graph.completeness import targets_exist
    from jubako.flow.graph.standing import Standing

    answers = Standing(targets_exist).look(tasks)
    return [task for task, answer in zip(tasks, answers, strict=True) if answer is not True]


def _echo_dry_run(plan: Backfill, below: Sequence[Task], format_: Format) -> None:
    if format_ == "table":
        echo(printable(plan.describe()))
        for span in plan.spans():
            echo(f"    {printable(span)}")
        if below:
            echo(printable(_describe_downstream(below)))
        for task in below:
            echo(f"    {printable(str(task))}")
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
        "over_limit": len(plan.over_limit),
        "not_asked": len(plan.not_asked),
        "spans": plan.spans(),
        "downstream": [str(task) for task in below],
    }
    echo_document(Document("jubako.backfill/1", ("value", "task", "to_run"), rows, facts, "tasks"), format_)
