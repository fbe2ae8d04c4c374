"""What a run came to, on the command line: the summary and the lines after it, or a document; and the exit code."""

from __future__ import annotations

from jubako.cli.document import Document, Format
from jubako.cli.exits import EXIT_CONFLICT, EXIT_FAILED, EXIT_HOST, EXIT_INTERRUPTED
from jubako.cli.formats import echo_document
from jubako.cli.terminal import echo, printable
from jubako.records import as_dict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.flow.accounting import RangeAccount
    from jubako.flow.result import RunResult

__all__ = ["echo_report", "get_exit_code"]

_COLUMNS = ("task", "task_id", "status", "error", "log", "kept_box")

# The groups of the summary that a task can be in, worst last: some are in several.
_STATUS = {
    "already_done": "complete",
    "completed": "done",
    "still_pending_not_ext": "pending",
    "still_pending_ext": "missing",
    "scheduling_error": "unscheduled",
    "failed": "failed",
}


def echo_report(
    result: RunResult, format_: Format, *, backfill: RangeAccount | None = None, tracebacks: bool = False
) -> None:
    """Print what the run came to; with what became of the range that a backfill was asked for."""
    if format_ != "table":
        facts = {name: value for name, value in result.to_json().items() if name != "version"}
        if backfill is not None:
            facts["backfill"] = as_dict(backfill)
        echo_document(Document("jubako.run/1", _COLUMNS, list(_rows(result)), facts, "tasks"), format_)
        return
    for line in result.format_summary_lines():
        echo(printable(line))
    if backfill is not None:
        echo(printable(backfill.describe()))
    for line in result.format_report():
        echo(printable(line))
    if tracebacks:
        for error in result.errors:
            echo("\n".join(printable(line) for line in error.traceback.split("\n")), err=True)
    if result.missing:
        echo("hint: put what is missing in place, then run the same command again", err=True)
    failed = {str(task) for task in result.groups.failed}
    had_box = result.mode == "host" and any(error.label in failed and not error.is_host for error in result.errors)
    if had_box and not result.kept:
        echo("hint: --keep keeps the box of a failed task, to look around in it", err=True)


def get_exit_code(result: RunResult) -> int:
    """0 only if all that was asked for is there."""
    if result.interrupted:
        return EXIT_INTERRUPTED
    if result.everything_there:
        return 0
    if result.errors and all(error.is_conflict for error in result.errors):
        return EXIT_CONFLICT
    if result.errors and all(error.is_host for error in result.errors):
        return EXIT_HOST
    return EXIT_FAILED


def _rows(result: RunResult) -> Iterator[dict[str, object]]:
    status = {task.task_id: (task, word) for name, word in _STATUS.items() for task in getattr(result.groups, name)}
    errors = {error.task_id: error for error in result.errors}
    for task_id, (task, word) in status.items():
        error = errors.get(task_id)
        yield {
            "task": str(task),
            "task_id": task_id,
            "status": word,
            "error": error.sentence if error else None,
            "log": (error.log_path or None) if error else None,
            "kept_box": (error.kept_box or None) if error else None,
        }
