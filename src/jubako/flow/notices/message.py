"""What is sent of a run: facts as a value, and the forms they take. Pure, and bounded: ten failed tasks are named,
however many there are.

The JSON form has a version; keys are added, never renamed or removed, within one.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from jubako.flow.accounting import format_seconds
from jubako.flow.outcome import Outcome
from jubako.records import field, record

__all__ = ["NAMED", "Message", "Trouble"]

NAMED: Final = 10  # failed tasks, and missing things, that a message names

_JSON_VERSION: Final = 1
_VERBS: Final[Mapping[Outcome, str]] = {
    "success": "is done",
    "failure": "failed",
    "missing": "is not all there",
    "interrupted": "was interrupted",
}


@record
class Trouble:
    """A task that failed, and why."""

    task: str
    task_id: str
    error: str
    place: str = ""
    log: str = ""
    kept_box: str = ""


@record
class Message:
    """One message. `event` is what it is about: a whole run, one failed task, or nothing but a trial."""

    event: Literal["run", "task", "test"]
    outcome: Outcome
    pipeline: str
    asked: str
    host: str
    began_s: float
    ended_s: float
    run_id: str = ""
    problem: str = ""  # why there was no run, or why it broke
    counts: Mapping[str, int] = field(default_factory=dict)
    errors: Sequence[Trouble] = ()
    more_errors: int = 0
    missing: Sequence[str] = ()
    more_missing: int = 0
    ranges: Sequence[str] = ()

    @property
    def summary(self) -> str:
        """All of it in one line."""
        if self.event == "test":
            return f"a trial message of jubako on {self.host}: nothing has failed"
        if self.event == "task":
            return f"{self.errors[0].task} failed on {self.host}: {self.errors[0].error}"
        numbers = self.problem or ", ".join(f"{count} {word}" for word, count in self.counts.items() if count)
        return f"{self.asked} {_VERBS[self.outcome]} on {self.host}" + (f": {numbers}" if numbers else "")

    def format_text(self) -> str:
        """As a mail or a chat has it."""
        lines = [self.summary, ""]
        if self.event != "test":
            lines += [f"pipeline  {self.pipeline}"]
            lines += [f"run       {self.run_id}"] if self.run_id else []
            lines += [f"began     {_moment(self.began_s)}, took {format_seconds(self.ended_s - self.began_s)}", ""]
        for error in self.errors:
            lines.append(f"{error.task}: {error.error}")
            lines += [f"    at {error.place}"] if error.place else []
            lines += [f"    log: {error.log}"] if error.log else []
            lines += [f"    jubako box enter {error.kept_box}"] if error.kept_box else []
        lines += [f"and {self.more_errors} more failed"] if self.more_errors else []
        lines += self.missing
        lines += [f"and {self.more_missing} more missing"] if self.more_missing else []
        lines += self.ranges
        if self.run_id:
            lines += ["", f"'jubako history {self.run_id}' and 'jubako logs {self.run_id}' have more."]
        return "\n".join(lines).rstrip("\n") + "\n"

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "version": _JSON_VERSION,
            "event": self.event,
            "outcome": self.outcome,
            "summary": self.summary,
            "pipeline": self.pipeline,
            "asked": self.asked,
            "host": self.host,
            "run": self.run_id or None,
            "began": _moment(self.began_s),
            "ended": _moment(self.ended_s),
            "wall_s": round(self.ended_s - self.began_s, 3),
            "problem": self.problem or None,
            "counts": dict(self.counts),
            "errors": [
                {
                    "task": error.task,
                    "task_id": error.task_id,
                    "error": error.error,
                    "at": error.place or None,
                    "log": error.log or None,
                    "kept_box": error.kept_box or None,
                }
                for error in self.errors
            ],
            "more_errors": self.more_errors,
            "missing": list(self.missing),
            "more_missing": self.more_missing,
            "ranges": list(self.ranges),
        }


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).astimezone().isoformat(timespec="seconds")
