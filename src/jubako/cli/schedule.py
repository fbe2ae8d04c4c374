"""`jubako schedule PIPELINE`: runs what a pipeline has scheduled, when it is due."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, contextmanager, redirect_stdout

import click

from jubako.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED
from jubako.cli.main import is_debugging
from jubako.cli.run_options import find_settings, format_run_options, make_run_options, run_options
from jubako.cli.terminal import echo
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, TypeAlias

    from jubako.flow.loader import Pipeline
    from jubako.flow.schedules.schedule import Schedule
    from jubako.flow.schedules.scheduler import Launcher, SchedulerEvent

    Tell: TypeAlias = Callable[[SchedulerEvent], None]

__all__ = ["schedule"]

_COUNT = 3
_EPILOG = """\b
Examples:
  jubako schedule examples/nightly --list       # what comes next, in its own zone and in UTC
  jubako schedule examples/nightly --workers 2  # until Ctrl-C or SIGTERM: then what runs is finished
  jubako schedule examples/nightly --print-systemd-unit > ~/.config/systemd/user/nightly.service"""


@click.command(epilog=_EPILOG)
@click.argument("pipeline")
@click.option("--list", "list_", is_flag=True, help="Show the next firings of each schedule, and run nothing.")
@click.option("--count", metavar="N", type=click.IntRange(1, 1000), help=f"How many of each, {_COUNT} by default.")
@click.option("--after", metavar="MOMENT", help="List those after another moment than now.")
@click.option("--once", is_flag=True, help="Run what is due now, then end.")
@click.option("--fire", metavar="NAME", help="Run what the schedule NAME runs at the moment --at, then end.")
@click.option("--at", metavar="MOMENT", help="2026-03-14T06:00 is in the schedule's zone, unless Z or +09:00 follows.")
@click.option("--metrics-address", metavar="HOST:PORT", help="Serve metrics there, for Prometheus.")
@click.option("--print-systemd-unit", is_flag=True, help="Print a unit that keeps this command running.")
@run_options
@click.pass_context
def schedule(ctx: click.Context, /, pipeline: str, **given: Any) -> int:
    """Run what PIPELINE has scheduled by @schedule(cron="0 6 * * *", ...), each when it is due.

    It stays in the foreground. What was missed while it did not run is made up for, as each schedule says.
    """
    _check(given)
    if given["fire"] is not None:
        return _fire(ctx, pipeline, given)
    address = None
    if given["metrics_address"] is not None:
        # Before the pipeline is: files beside it may have the names of what this imports.
        from jubako.flow.metrics.endpoint import parse_address

        address = parse_address(given["metrics_address"])
    loaded = _load(pipeline)

    from jubako.boxes.state import find_state_root
    from jubako.flow.schedules.firing_process import ProcessLauncher
    from jubako.flow.schedules.schedule import find_schedules

    schedules = list(find_schedules(loaded).values())
    if not schedules:
        raise InputError(
            f"there is nothing scheduled in {loaded.source.name}",
            hint='@schedule(cron="0 6 * * *") in front of a task or a function schedules it',
        )
    if given["list_"]:
        return _list(schedules, given)
    words = [sys.executable, "-P", "-m", "jubako", "schedule", *format_run_options(ctx)]
    if given["print_systemd_unit"]:
        from jubako.cli.systemd_unit import format_unit

        state = find_state_root(os.environ, os.path.expanduser("~"))
        serving = [] if address is None else ["--metrics-address", given["metrics_address"]]
        echo(format_unit([*words, *serving, "--", pipeline], os.getcwd(), state, is_root=os.geteuid() == 0))
        return 0
    with ExitStack() as stack:
        tells = _find_listeners(loaded, given, stack)
        if address is not None:
            path, tell = stack.enter_context(_measured(loaded, schedules, address, given))
            words += ["--metrics-file", path]
            tells.insert(0, tell)  # counted before it is said: who reads that looks at the numbers
        return _serve(loaded, schedules, ProcessLauncher(words, pipeline, os.environ), given, tells)


def _check(given: dict[str, Any]) -> None:
    """Refuses options that make no sense together."""
    asked = {
        "--list": given["list_"],
        "--once": given["once"],
        "--fire": given["fire"] is not None,
        "--print-systemd-unit": given["print_systemd_unit"],
    }
    chosen = [name for name, is_given in asked.items() if is_given]
    if len(chosen) > 1:
        raise InputError(f"{' and '.join(chosen)} are different things to do", hint="give one of them")
    for option, value, needed in (
        ("--count", given["count"], "--list"),
        ("--after", given["after"], "--list"),
        ("--at", given["at"], "--fire"),
    ):
        if value is not None and not asked[needed]:
            raise InputError(f"{option} is for {needed}", hint="'jubako schedule --help' explains the options")
    if asked["--fire"] and given["at"] is None:
        raise InputError("--fire needs the moment of the firing, --at MOMENT", hint="--list shows moments to come")


def _load(pipeline: str) -> Pipeline:
    from jubako.flow.loader import load_pipeline

    with redirect_stdout(sys.stderr):  # what importing it prints is no part of a result
        return load_pipeline(pipeline)


def _list(schedules: Sequence[Schedule], given: dict[str, Any]) -> int:
    import time
    from itertools import islice

    from jubako.cli.schedule_report import echo_next_firings
    from jubako.flow.schedules.time_zone import parse_moment

    firings = []
    for each in schedules:
        after_s = int(time.time()) if given["after"] is None else parse_moment(given["after"], each.rule.zone)
        firings += [(each, moment_s) for moment_s in islice(each.rule.following(after_s), given["count"] or _COUNT)]
    with redirect_stdout(sys.stderr):
        rows = [(each, moment_s, each.tasks(moment_s)) for each, moment_s in firings]
    echo_next_firings(rows, given["format_"])
    return 0


def _fire(ctx: click.Context, pipeline: str, given: dict[str, Any]) -> int:
    """Runs one firing as `jubako run` would, in this process."""
    from jubako.cli.progress import load_display, show_progress
    from jubako.cli.report import echo_report, get_exit_code
    from jubako.cli.unloadable import telling_of_unloadable
    from jubako.flow.run.runner import run
    from jubako.flow.schedules.schedule import get_schedule
    from jubako.flow.schedules.time_zone import parse_moment

    load_display()
    with telling_of_unloadable(pipeline, given["fire"], given["config"]):
        loaded = _load(pipeline)
    fired = get_schedule(loaded, given["fire"])
    moment_s = parse_moment(given["at"], fired.rule.zone)
    with telling_of_unloadable(pipeline, fired.name, given["config"]), redirect_stdout(sys.stderr):
        tasks = fired.tasks(moment_s)
    with show_progress(given["format_"]) as progress:
        result = run(tasks, make_run_options(loaded, given), observer=progress)
    echo_report(result, given["format_"], tracebacks=is_debugging(ctx))
    return get_exit_code(result)


def _find_listeners(pipeline: Pipeline, given: dict[str, Any], stack: ExitStack) -> list[Tell]:
    """Who is told what the scheduler does: whoever looks, and hooks of runs that cannot tell them themselves."""
    from jubako.cli.lines import describe_note
    from jubako.cli.schedule_report import SchedulerLines

    tells: list[Tell] = [SchedulerLines(err=given["format_"] != "table").tell]
    settings = find_settings(pipeline.file, given["config"])
    if settings is not None and settings.notify:
        from jubako.flow.schedules.lost_runs import LostRuns  # 15 ms, for those who have hooks

        lost = LostRuns(settings.notify, pipeline.file, lambda note: echo(describe_note(note), err=True))
        tells.append(stack.enter_context(lost).tell)
    return tells


@contextmanager
def _measured(
    pipeline: Pipeline, schedules: Sequence[Schedule], address: tuple[str, int], given: dict[str, Any]
) -> Iterator[tuple[str, Tell]]:
    """Serves metrics: those of the file that runs are counted in, which it answers with, and the scheduler's own."""
    import time

    from jubako.boxes.state import default_state_root
    from jubako.flow.metrics.endpoint import serve_metrics
    from jubako.flow.metrics.file import check_file, find_file_of, read_text
    from jubako.flow.schedules.schedule_meter import ScheduleMeter

    path = make_run_options(pipeline, given).metrics_file or find_file_of(default_state_root().path, pipeline.file)
    check_file(path)
    meter = ScheduleMeter(pipeline.file, schedules, time.time)
    with serve_metrics(address, lambda: read_text(path) + meter.format()) as url:
        echo(f"metrics at {url}", err=given["format_"] != "table")
        yield path, meter.tell


def _serve(
    pipeline: Pipeline,
    schedules: Sequence[Schedule],
    launcher: Launcher,
    given: dict[str, Any],
    tells: Sequence[Tell],
) -> int:
    """Runs what is due, each firing by a command of its own, until it is stopped."""
    from jubako.boxes.state import default_state_root
    from jubako.flow.clock import SystemClock
    from jubako.flow.interrupts import Interrupts
    from jubako.flow.schedules.schedule_book import hold_schedules, open_schedule_book
    from jubako.flow.schedules.scheduler import Scheduler, wait_for

    def tell(event: SchedulerEvent) -> None:
        for each in tells:
            each(event)

    state = default_state_root()
    with hold_schedules(state, pipeline.file), Interrupts(lambda: False) as interrupts:
        scheduler = Scheduler(
            schedules,
            lambda: open_schedule_book(state, pipeline.file, durability=given["durability"]),
            launcher,
            clock=SystemClock(),
            interrupts=interrupts,
            tell=tell,
            wait=wait_for,
        )
        scheduler.serve(once=given["once"])
    if scheduler.was_cancelled or (given["once"] and scheduler.is_stopping):
        return EXIT_INTERRUPTED
    return EXIT_FAILED if given["once"] and scheduler.is_failed else 0
