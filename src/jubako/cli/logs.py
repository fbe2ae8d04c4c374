"""`jubako logs`: what the tasks of a run printed; with `--follow`, what they print, until the run is over."""

from __future__ import annotations

import os
import sys
import time

import click

from jubako.cli.exits import EXIT_FAILED
from jubako.cli.lines import PrintedLines, printable_line
from jubako.cli.past import complete_run, complete_tried_task, find_own_state, open_own_history
from jubako.cli.terminal import echo, echo_bytes, printable
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.flow.ledger.history import History, PastRun
    from jubako.flow.ledger.past_logs import TaskLog

__all__ = ["logs"]

_LOOK_S = 0.2  # between two looks at a run that is followed
_IDLE_SHARE = 10  # a look that takes long is followed by a pause so many times as long

_EPILOG = """\b
Examples:
  jubako logs                                  # of the newest run
  jubako logs 20100314T050607 DailySummary --tail 20
  jubako logs --follow                         # reads along; exit code 0 if the run ends well"""


@click.command(epilog=_EPILOG)
@click.argument("run_id", metavar="[RUN]", required=False, shell_complete=complete_run)
@click.argument("task", required=False, shell_complete=complete_tried_task)
@click.option("--follow", "-f", is_flag=True, help="Go on until the run is over.")
@click.option("--tail", metavar="N", type=click.IntRange(min=0), help="Only the last N lines of each log.")
def logs(run_id: str | None, task: str | None, follow: bool, tail: int | None) -> int:
    """Print what the tasks of RUN printed, stdout and stderr together; without RUN, of the newest run.

    The start of a run's id is enough. TASK is the name of a task, or a whole one: 'Report(year=2010)'; without RUN, of
    the newest run that has tried it.
    """
    from jubako.flow.ledger.past_logs import list_logs

    with open_own_history() as past:
        if run_id is not None and task is None and past.find_run(run_id) is None:
            tried = past.list_attempts(task=run_id, limit=1)
            if tried:  # a task, of the newest run that has tried it
                run_id, task = tried[0].run_id, run_id
        run = _get_run(past, run_id)
        found = list_logs(past, run, _directory_of(run), task)
    if follow:
        return _follow(run, task, tail)
    if run_id is None:
        echo(f"Run {run.run_id}: {printable(run.asked)}", err=True)
    if not found:
        echo("No task has printed anything.", err=True)
    elif task is not None and len(found) == 1:
        _echo_one(found[0], tail)
    else:
        for log in found:
            echo(f"==> {_describe(log)} <==")
            _echo_log(log, tail)
    return 0


def _get_run(past: History, run_id: str | None) -> PastRun:
    if run_id is not None:
        return past.get_run(run_id)
    newest = past.list_runs(limit=1)
    if not newest:
        raise InputError(
            "nothing has been run yet, so there are no logs", hint="'jubako run PIPELINE TASK' runs a task"
        )
    return newest[0]


def _directory_of(run: PastRun) -> str:
    from jubako.boxes.state import StateRoot

    return os.path.join(StateRoot(os.path.realpath(find_own_state())).logs_path, run.run_id)


def _echo_one(log: TaskLog, tail: int | None) -> None:
    """A log as it is, for whatever reads it; what else is to be said goes to stderr."""
    _echo_log(log, tail)
    if not log.path or log.error:
        echo(_describe(log) if log.error else f"{printable(log.label)} printed nothing.", err=True)


def _echo_log(log: TaskLog, tail: int | None) -> None:
    """In a pipe byte for byte; on a terminal without what it could obey."""
    from jubako.flow.ledger.past_logs import read_log

    if not log.path:
        return
    ends_line = True
    if sys.stdout.isatty():
        rest = b""
        for piece in read_log(log.path, last_lines=tail):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                echo(printable_line(line))
        if rest:
            echo(printable_line(rest))
        return
    for piece in read_log(log.path, last_lines=tail):
        echo_bytes(piece)
        ends_line = piece.endswith(b"\n")
    if not ends_line:
        echo("")


def _describe(log: TaskLog) -> str:
    """Whose it is, and what came of it."""
    outcome = f", {log.outcome}" if log.outcome else ""
    first_line = log.error.partition("\n")[0]
    return printable(f"{log.label}{outcome}{f': {first_line}' if first_line else ''}")


def _follow(run: PastRun, task: str | None, tail: int | None) -> int:
    """Prints what comes, a line at a time with the task in front, until the run is over; the command's exit code."""
    from jubako.flow.ledger.past_logs import Follower

    follower = Follower(_directory_of(run), task=task, last_lines=tail)
    printed = PrintedLines(echo)
    labels: dict[str, str] = {}
    while True:
        began_s = time.monotonic()
        with open_own_history() as past:  # before the last look: what is printed later than that is no task's
            run = past.get_run(run.run_id)
        for log, piece in follower.look():
            labels[log.attempt_id] = log.label
            printed.add(log.attempt_id, log.label, piece)
        if not run.is_living:
            break
        time.sleep(max(_LOOK_S, (time.monotonic() - began_s) * _IDLE_SHARE))
    for attempt_id, label in labels.items():
        printed.end(attempt_id, label)
    counts = ", ".join(f"{count} {what}" for what, count in run.counts.items() if count)
    echo(f"Run {run.run_id}: {run.outcome}{f' ({counts})' if counts else ''}.", err=True)
    return EXIT_FAILED if run.outcome != "ok" else 0
