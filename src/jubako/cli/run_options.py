"""The options that `run` and `backfill` share: how tasks are to be run. One place, so that they stay the same.

`why` and `status` have the one that bears on what they say.
"""

from __future__ import annotations

import os

import click
from click.core import ParameterSource

from jubako.cli.declare import format_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Any

    from jubako.flow.engine.disabling import Verdict
    from jubako.flow.ledger.history import History
    from jubako.flow.lineage.destination import Lineage
    from jubako.flow.loader import Pipeline
    from jubako.flow.options import RunOptions
    from jubako.flow.settings import Settings

__all__ = [
    "disable_after_option",
    "find_settings",
    "format_run_options",
    "make_judge",
    "make_run_options",
    "read_workers",
    "run_options",
]


def read_workers(text: str) -> int:
    """A number from 1, or "auto": a worker for each processor that jubako may use."""
    if text == "auto":
        from jubako.kernel.processors import count_processors  # reads the mount table; few ask for it

        return count_processors()
    if not text.isdecimal() or int(text) < 1:
        raise click.BadParameter(f"{text!r} is not a whole number of 1 or more, nor 'auto'")
    return int(text)


def _read_count(text: str) -> int:
    if not text.isdecimal():
        raise click.BadParameter(f"{text!r} is not a number from 0")
    return int(text)


def _read_backoff(text: str) -> tuple[float, ...]:
    """Up to three numbers: seconds to wait, by what they grow from try to try, the most they grow to."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not 1 <= len(numbers) <= 3:
        raise click.BadParameter(f"{text!r} is not of the form SECONDS, SECONDS,FACTOR or SECONDS,FACTOR,MOST")
    return numbers


def _read_disabling(text: str) -> tuple[int, ...]:
    """Up to three numbers: so many failures, within so many seconds, for so many."""
    parts = text.split(",") if text else []
    try:
        numbers = tuple(int(part) for part in parts)
    except ValueError:
        numbers = (-1,)
    if len(numbers) > 3 or any(number < 0 for number in numbers):
        raise click.BadParameter(f"{text!r} is not of the form N, N,SECONDS or N,SECONDS,SECONDS")
    return numbers


def _read_resources(_ctx: click.Context, _option: click.Parameter, texts: Sequence[str]) -> dict[str, int]:
    """How much there is of each named resource."""
    capacities = {}
    for text in texts:
        name, equals, amount = text.rpartition("=")
        if not equals or not name or not amount.isdecimal():
            raise click.BadParameter(f"{text!r} is not of the form NAME=N")
        capacities[name] = int(amount)
    return capacities


_DISABLING = ("disable_after", "disable_window_s", "disable_for_s")  # fields of RunOptions, as --disable-after has them
disable_after_option = click.option(
    "--disable-after",
    metavar="N[,IN[,FOR]]",
    type=_read_disabling,
    default="",
    help="Failures that disable a task for a while.",
)
_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--workers",
        metavar="N|auto",
        type=read_workers,
        default="1",
        help="Tasks at a time (1); auto: one per CPU.",
    ),
    click.option(
        "--box",
        metavar="host|none",
        type=click.Choice(["host", "none"]),
        default="host",
        help="Run tasks in boxes (the default) or unboxed.",
    ),
    click.option("--strict", is_flag=True, help="What a range leaves out counts as missing."),
    click.option(
        "--durability",
        metavar="full|relaxed",
        type=click.Choice(["full", "relaxed"]),
        default="full",
        help="Survive power loss (the default) or kill -9.",
    ),
    click.option("--retries", metavar="N", type=_read_count, default="0", help="Tries after a failed one (0)."),
    click.option(
        "--retry-delay",
        metavar="S[,FACTOR[,MAX]]",
        type=_read_backoff,
        default="0",
        help="Seconds before each; then FACTOR times more.",
    ),
    click.option(
        "--resource",
        metavar="NAME=N",
        multiple=True,
        callback=_read_resources,
        help="How much of it this run has (1 of each).",
    ),
    click.option(
        "--shared-resource",
        metavar="NAME=N",
        multiple=True,
        callback=_read_resources,
        help="How much of it all runs here have together.",
    ),
    disable_after_option,
    click.option("--stale", is_flag=True, help="Run again where code or inputs changed."),
    click.option("--keep", is_flag=True, help="Keep the boxes of failed tasks to look into."),
    click.option(
        "--undeclared",
        metavar="warn|fail|publish",
        type=click.Choice(["warn", "fail", "publish"]),
        help="Drop, refuse or keep what no task declared.",
    ),
)
_REPORTING = (
    ("--config", "FILE|none", "Instead of the pipeline's jubako.toml."),
    ("--metrics-file", "PATH", "Add what it comes to there, for Prometheus."),
    ("--lineage", "PATH|URL", "Send OpenLineage events there."),
)


def run_options(command: Any, *, shows_reporting: bool = True) -> Any:
    """Give a command the options of a run, to be passed on to `make_run_options`; its help may leave some out."""
    command = format_option(command)
    for name, metavar, about in reversed(_REPORTING):
        command = click.option(name, metavar=metavar, help=about, hidden=not shows_reporting)(command)
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def format_run_options(ctx: click.Context) -> list[str]:
    """The options of a run that were given on the line of `ctx`, as words for another line."""
    names = {option.name for option in run_options(click.Command(None)).params}
    words: list[str] = []
    for option in ctx.command.params:
        if option.name in names and ctx.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            words += _format_option(option.opts[0], ctx.params[option.name])
    return words


def _format_option(name: str, value: Any) -> list[str]:
    """An option with the value that was read from it, as words that are read as the same."""
    if value is True:
        return [name]
    if isinstance(value, dict):  # one that may be given several times
        return [word for key, amount in value.items() for word in (name, f"{key}={amount}")]
    return [name, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]


def make_judge(history: History, pipeline: str, disable_after: tuple[int, ...]) -> Callable[[Any], Verdict]:
    """Tells of a task whether it has failed too often, by itself or by what `disable_after_option` read."""
    from jubako.flow.clock import SystemClock
    from jubako.flow.engine.disabling import Disabling, Limit

    return Disabling(lambda: history.list_endings(pipeline), Limit(*disable_after), SystemClock().wall_s()).judge


def make_run_options(
    pipeline: Pipeline | None, given: dict[str, Any], *, backfill: str = "", redo: Collection[Any] = ()
) -> RunOptions:
    """The run's options, from what `run_options` made click pass to the command; `redo` is run though it is done."""
    from jubako.flow.engine.backoff import Backoff
    from jubako.flow.options import RunOptions

    backoff = Backoff(*given["retry_delay"])
    settings = find_settings("" if pipeline is None else pipeline.file, given["config"])
    return RunOptions(
        workers=given["workers"],
        box=given["box"],
        strict=given["strict"],
        durability=given["durability"],
        attempts=1 + given["retries"],
        retry_delay_s=backoff.delay_s,
        retry_backoff=backoff.factor,
        retry_delay_max_s=backoff.most_s,
        resources=given["resource"],
        shared_resources=given["shared_resource"],
        **dict(zip(_DISABLING, given["disable_after"], strict=False)),
        keep_failed=given["keep"],
        stale=given["stale"],
        undeclared=given["undeclared"],
        pipeline=pipeline,
        notify=() if settings is None else settings.notify,
        lineage=_find_lineage(given["lineage"], settings),
        metrics_file=given["metrics_file"] or ("" if settings is None else settings.metrics_file),
        backfill=backfill,
        redo=frozenset(redo),
    )


def _find_lineage(given: str | None, settings: Settings | None) -> Lineage | None:
    """Where lineage goes: what the line says comes first. An api_key is for nobody but whom it was meant for."""
    configured = None if settings is None else settings.lineage
    if given is None or (configured is not None and configured.to == given):
        return configured
    from jubako.flow.lineage.destination import Lineage

    return Lineage(given) if configured is None else Lineage(given, configured.namespace)


def find_settings(pipeline_file: str, given: str | None) -> Settings | None:
    """What the `jubako.toml` beside the pipeline says, or the file that --config gives; None if there is neither."""
    from jubako.flow.settings_file import find_settings_file

    path = find_settings_file(pipeline_file, os.environ, given=given)
    if not path:
        return None
    from jubako.flow.settings import read_settings  # 10 ms, for those who have such a file

    return read_settings(path)
