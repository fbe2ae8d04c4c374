"""The options that `run` and `backfill` share: how tasks are to be run. One place, so that they stay the same."""

from __future__ import annotations

import click

from jubako.cli.declare import format_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from jubako.flow.loader import Pipeline
    from jubako.flow.options import RunOptions

__all__ = ["make_run_options", "run_options"]


class _Count(click.IntRange):
    """A whole number of 1 or more; click would speak of integer ranges."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not a whole number of 1 or more.", param, ctx)


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--workers", metavar="N", type=_Count(min=1), default=1, help="Tasks at a time, 1 by default."),
    click.option(
        "--box",
        metavar="host|none",
        type=click.Choice(["host", "none"]),
        default="host",
        help="Run tasks in boxes on this host, or unboxed.  [default: host]",
    ),
    click.option("--strict", is_flag=True, help="What a range leaves out counts as missing."),
    click.option(
        "--durability",
        metavar="full|relaxed",
        type=click.Choice(["full", "relaxed"]),
        default="full",
        help="Survive power loss, or only kill -9.  [default: full]",
    ),
    click.option("--keep", is_flag=True, help="Keep the boxes of failed tasks for 'jubako box enter'."),
    click.option(
        "--undeclared",
        metavar="warn|fail|publish",
        type=click.Choice(["warn", "fail", "publish"]),
        help="Drop, refuse or keep what no task declared.",
    ),
    format_option,
)


def run_options(command: Any) -> Any:
    """Give a command the options of a run, to be passed on to `make_run_options`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def make_run_options(
    pipeline: Pipeline | None, given: dict[str, Any], *, backfill: str = "", redo: Collection[Any] = ()
) -> RunOptions:
    """The run's options, from what `run_options` made click pass to the command; `redo` is run though it is done."""
    from jubako.flow.options import RunOptions

    return RunOptions(
        workers=given["workers"],
        box=given["box"],
        strict=given["strict"],
        durability=given["durability"],
        keep_failed=given["keep"],
        undeclared=given["undeclared"],
        pipeline=pipeline,
        backfill=backfill,
        redo=frozenset(redo),
    )
