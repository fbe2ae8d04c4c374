"""`jubako history`: which runs there were, and which attempts at tasks, the newest first."""

from __future__ import annotations

import click

from jubako.cli.declare import format_option
from jubako.cli.document import Document, Format
from jubako.cli.formats import echo_document
from jubako.cli.moments import format_moment, iso_moment
from jubako.cli.past import complete_subject, complete_tried_task, open_own_history
from jubako.cli.terminal import echo, printable
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.flow.ledger.history import History, PastAttempt, PastRun

__all__ = ["history"]

_EPILOG = """\b
Examples:
  jubako history                                       # all runs, the newest first
  jubako history examples/weather DailySummary --failed
  jubako history 20100314T050607                       # what one run did; the start of its id is enough

History says what happened. What is there now, 'jubako status' and 'jubako why' say."""

_RUN_COLUMNS = (
    "run", "pipeline", "asked", "kind", "outcome", "status", "mode", "pid", "started", "ended", "took_s", "counts",
    "undeclared",
)  # fmt: skip
_ATTEMPT_COLUMNS = (
    "run", "attempt", "task", "task_id", "outcome", "error", "mode", "started", "took_s", "cpu_s", "peak_bytes",
    "undeclared",
)  # fmt: skip


@click.command(epilog=_EPILOG)
@click.argument("subject", metavar="[PIPELINE|RUN]", required=False, shell_complete=complete_subject)
@click.argument("task", required=False, shell_complete=complete_tried_task)
@click.option("--last", metavar="N", type=click.IntRange(min=1), default=20, help="How many to show, 20 by default.")
@click.option("--failed", is_flag=True, help="Only what failed.")
@format_option
def history(subject: str | None, task: str | None, last: int, failed: bool, format_: Format) -> None:
    """List the runs of PIPELINE (of all without one), or the attempts at TASK, or what RUN did.

    TASK is the name of a task, or a whole one: 'DailySummary(date=2010-03-14)'.
    """
    with open_own_history() as past:
        run = pipeline = None
        if subject is not None:
            pipeline = past.find_pipeline(subject)
            run = past.find_run(subject) if pipeline is None else None
            if pipeline is None and run is None:
                raise _unknown(past, subject)
        if run is None and task is None:
            _echo_runs(past, pipeline, last=last, failed=failed, format_=format_)
            return
        of_run = run.run_id if run is not None else None
        found = past.list_attempts(pipeline, task, run_id=of_run, failed=failed, limit=last + 1)
        if not found and task is not None and not failed:
            raise _untried(past, pipeline, task)
        _echo_attempts(found[:last], run, format_)
        if len(found) > last:
            _say(f"These are the newest {last}; --last shows more.", format_)


def _unknown(past: History, subject: str) -> InputError:
    from jubako.flow.ledger.history import suggest
    from jubako.flow.loader import find_pipeline_file

    try:
        find_pipeline_file(subject)
    except InputError:
        known = [*past.list_run_ids(), *past.list_pipelines()]
        hint = suggest(subject, known) or "'jubako history' lists the runs"
        return InputError(f"there is no pipeline and no run {subject}", hint=hint)
    return InputError(f"nothing of {subject} has been run yet", hint=f"'jubako run {subject}' lists its tasks")


def _untried(past: History, pipeline: str | None, task: str) -> InputError:
    from jubako.flow.ledger.history import suggest

    known = past.list_families(pipeline)
    hint = suggest(task.partition("(")[0], known) or f"tried were {', '.join(known[:5]) or 'none'}"
    return InputError(f"no attempt at {task} is remembered", hint=hint)


def _echo_runs(past: History, pipeline: str | None, *, last: int, failed: bool, format_: Format) -> None:
    runs = past.list_runs(pipeline, failed=failed, limit=last + 1)
    undeclared = past.count_undeclared()
    shown = runs[:last]
    if format_ == "table":
        rows = [_run_for_people(run, undeclared.get(run.run_id, 0)) for run in shown]
        columns = ("started", "took", "outcome", "done", "failed", "undeclared", "box", "run", "asked")
        echo_document(Document("", columns, rows), format_)
    else:
        rows = [_run_for_programs(run, undeclared.get(run.run_id, 0)) for run in shown]
        echo_document(Document("jubako.history.runs/1", _RUN_COLUMNS, rows, {}, "runs"), format_)
    if not runs:
        _say("No run has failed." if failed else "Nothing has been run yet.", format_)
    elif len(runs) > last:
        _say(f"These are the newest {last}; --last shows more.", format_)


def _echo_attempts(attempts: Sequence[PastAttempt], run: PastRun | None, format_: Format) -> None:
    if format_ != "table":
        rows = [_attempt_for_programs(attempt) for attempt in attempts]
        facts = {} if run is None else {"run": _run_for_programs(run, None)}
        echo_document(Document("jubako.history.attempts/1", _ATTEMPT_COLUMNS, rows, facts, "attempts"), format_)
        return
    if run is not None:
        echo(printable(f"{run.run_id}: {run.asked}, {_describe(run)}"))
    of_whom = ("box", "run") if run is None else ()
    columns = ("started", "took", "outcome", "undeclared", *of_whom, "task", "error")
    echo_document(Document("", columns, [_attempt_for_people(attempt) for attempt in attempts]), format_)
    if not attempts:
        _say("No attempt to show.", format_)


def _describe(run: PastRun) -> str:
    """How a run stands, in a few words."""
    where = "in boxes" if run.mode == "host" else "not boxed"
    if run.is_living:
        return f"{run.outcome} {where} since {format_moment(run.started_s)}, pid {run.pid}"
    return f"{run.outcome}, {where}, started {format_moment(run.started_s)}"


def _run_for_people(run: PastRun, undeclared: int) -> dict[str, object]:
    from jubako.flow.accounting import format_seconds

    return {
        "started": format_moment(run.started_s),
        "took": None if run.ended_s is None else format_seconds(run.ended_s - run.started_s),
        "outcome": run.outcome,
        "done": run.counts.get("done"),
        "failed": run.counts.get("failed"),
        "undeclared": undeclared,
        "box": run.mode,
        "run": run.run_id,
        "asked": run.asked if run.kind == "run" else f"{run.kind} {run.asked}",
    }


def _run_for_programs(run: PastRun, undeclared: int | None) -> dict[str, object]:
    facts: dict[str, object] = {
        "run": run.run_id,
        "pipeline": run.pipeline,
        "asked": run.asked,
        "kind": run.kind,
        "outcome": run.outcome,
        "status": run.status,
        "mode": run.mode,
        "pid": run.pid,
        "started": iso_moment(run.started_s),
        "ended": iso_moment(run.ended_s),
        "took_s": None if run.ended_s is None else round(run.ended_s - run.started_s, 3),
        "counts": dict(run.counts),
    }
    return facts if undeclared is None else {**facts, "undeclared": undeclared}


def _attempt_for_people(attempt: PastAttempt) -> dict[str, object]:
    from jubako.flow.accounting import format_seconds

    return {
        "started": format_moment(attempt.started_s),
        "took": format_seconds(attempt.wall_s),
        "outcome": attempt.outcome,
        "undeclared": len(attempt.undeclared),
        "box": attempt.mode,
        "run": attempt.run_id,
        "task": attempt.label,
        "error": attempt.error.partition("\n")[0],
    }


def _attempt_for_programs(attempt: PastAttempt) -> dict[str, object]:
    return {
        "run": attempt.run_id,
        "attempt": attempt.attempt_id,
        "task": attempt.label,
        "task_id": attempt.task_id,
        "outcome": attempt.outcome,
        "error": attempt.error or None,
        "mode": attempt.mode,
        "started": iso_moment(attempt.started_s),
        "took_s": round(attempt.wall_s, 3),
        "cpu_s": round(attempt.cpu_s, 3),
        "peak_bytes": attempt.peak_bytes,
        "undeclared": list(attempt.undeclared),
    }


def _say(line: str, format_: Format) -> None:
    """A remark for people, on stderr."""
    if format_ == "table":
        echo(line, err=True)
