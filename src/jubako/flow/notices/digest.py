"""Makes a message of how a run has ended: what of it is worth sending. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from jubako.errors import JubakoError
from jubako.flow.notices.message import NAMED, Message, Trouble
from jubako.flow.outcome import find_outcome
from jubako.records import replace

if TYPE_CHECKING:
    from jubako.flow.observer import TaskFailed
    from jubako.flow.result import RunResult, TaskError

__all__ = ["describe_break", "describe_ending", "describe_result", "describe_task"]

_Clean = Callable[[str], str]


def describe_result(about: Message, result: RunResult, clean: _Clean) -> Message:
    """`about` with what the run came to."""
    accounts = [account.describe() for account in result.accounts if not account.is_whole]
    return replace(
        about,
        event="run",
        outcome=find_outcome(result),
        run_id=result.run_id,
        counts=result.counts,
        errors=[_describe_error(error, clean) for error in result.errors[:NAMED]],
        more_errors=max(0, len(result.errors) - NAMED),
        missing=[clean(text) for text in result.missing[:NAMED]],
        more_missing=max(0, len(result.missing) - NAMED),
        ranges=[clean(text) for text in accounts[:NAMED]],
    )


def describe_break(about: Message, error: BaseException, clean: _Clean) -> Message:
    """`about` with why there is no result: the run was refused, or it broke."""
    outcome = find_outcome(None, error)
    if outcome == "interrupted":
        return replace(about, event="run", outcome=outcome)
    return replace(about, event="run", outcome=outcome, problem=describe_ending(None, error, clean))


def describe_ending(result: RunResult | None, error: BaseException | None, clean: _Clean) -> str:
    """Why a run is not a success, in a sentence."""
    if result is None:
        return clean(error.message if isinstance(error, JubakoError) else f"{type(error).__name__}: {error}")
    if result.errors:
        more = f", and {len(result.errors) - 1} more" if len(result.errors) > 1 else ""
        return clean(f"{result.errors[0].label}: {result.errors[0].sentence}") + more
    return clean(result.missing[0]) if result.missing else "not all that was asked for is there"


def describe_task(about: Message, event: TaskFailed, clean: _Clean) -> Message:
    """`about` with one task that has failed."""
    trouble = Trouble(
        clean(str(event.task)), event.task.task_id, clean(event.error), log=event.log_path, kept_box=event.kept_box
    )
    return replace(about, event="task", outcome="failure", errors=[trouble])


def _describe_error(error: TaskError, clean: _Clean) -> Trouble:
    return Trouble(
        clean(error.label), error.task_id, clean(error.sentence), clean(error.place), error.log_path, error.kept_box
    )
