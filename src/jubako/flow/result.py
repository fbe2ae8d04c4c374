"""What a run came to: one value that says everything, for Python callers, the command line and its JSON form.

The JSON form has a version; keys are added, never renamed or removed, within one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from jubako.flow.accounting import RangeAccount, format_accounts, format_seconds, format_undeclared
from jubako.flow.observer import Mode
from jubako.flow.summary import Groups, RunStatus, format_summary, get_status
from jubako.records import field, record

if TYPE_CHECKING:
    from jubako.layers.change import Change

__all__ = ["RunResult", "TaskError"]

_JSON_VERSION: Final = 1
_FRAME: Final = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)
# The standard library, and jubako itself.
_NOT_THE_PIPELINE: Final = (
    "<frozen",
    os.path.dirname(os.__file__) + os.sep,
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,
)


@record
class TaskError:
    """Why a task failed, could not be scheduled, or met a conflict."""

    task_id: str
    label: str
    sentence: str
    traceback: str = ""
    log_path: str = ""  # "" if it printed nothing
    kept_box: str = ""  # id of the box kept for a look
    is_conflict: bool = False
    is_host: bool = False  # the host could not do what was needed: a read-only disk, no room

    @property
    def place(self) -> str:
        """The innermost line of the pipeline in the traceback, "/data/pipeline.py:27, in run"; "" without a traceback.

        Where none is the pipeline's, the innermost of all: libraries and jubako are passed over, not left out.
        """
        frames = _FRAME.findall(self.traceback)
        theirs = [frame for frame in frames if not _is_of_a_library(frame[0])]
        return "{}:{}, in {}".format(*(theirs or frames)[-1]) if frames else ""


@record
class RunResult:
    """What a run came to.

    `everything_there` is what an exit code is made of: every task asked for is done, nothing is owed after publishing,
    and in strict mode no range has left anything out. It is true if the run was truthy: `if run([T()]): ...`.
    """

    run_id: str
    mode: Mode
    groups: Groups
    everything_there: bool
    interrupted: bool = False
    accounts: Sequence[RangeAccount] = ()
    undeclared: Mapping[str, Sequence[Change]] = field(default_factory=dict)  # by task, what was written and dropped
    undeclared_published: Mapping[str, Sequence[Change]] = field(default_factory=dict)
    unmade: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by task that counts as done: outputs not there
    errors: Sequence[TaskError] = ()
    missing: Sequence[str] = ()  # what tasks without a run() stand for and is not there, a sentence each
    notes: Sequence[str] = ()
    recovered: Sequence[str] = ()  # what an earlier run had begun to publish and this one finished or undid
    wall_s: float = 0.0

    def __bool__(self) -> bool:
        return self.everything_there

    @property
    def status(self) -> RunStatus:
        """How the run looks, in Luigi's terms."""
        return get_status(self.groups)

    @property
    def conflicts(self) -> Sequence[TaskError]:
        """Errors that came of something else changing what a task was about to change."""
        return [error for error in self.errors if error.is_conflict]

    @property
    def kept(self) -> Mapping[str, str]:
        """Ids of kept boxes by task."""
        return {error.label: error.kept_box for error in self.errors if error.kept_box}

    @property
    def counts(self) -> Mapping[str, int]:
        """How many tasks came to what; every task is in one of them."""
        groups = self.groups
        return {
            "complete": len(groups.already_done),
            "done": len(groups.completed),
            "failed": len(groups.failed),
            "unscheduled": len(groups.scheduling_error),
            "missing": len(groups.still_pending_ext),
            "pending": len(groups.still_pending_not_ext),
        }

    def format_summary(self, *, summary_length: int = 5) -> str:
        """Luigi's execution summary, to the letter."""
        return format_summary(self.groups, summary_length=summary_length)

    def format_report(self) -> list[str]:
        """Our lines after it: what ranges left out, undeclared writes, errors, seconds.

        Notes are not among them: an observer is told each as it comes, and `notes` has them all.
        """
        lines = format_accounts(self.accounts)
        for label, changes in self.undeclared.items():
            lines += format_undeclared(label, changes)
        for label, changes in self.undeclared_published.items():
            lines += format_undeclared(label, changes, published=True)
        lines += [f"{label} ran and did not make {', '.join(paths)}" for label, paths in self.unmade.items()]
        for error in self.errors:
            lines.append(f"{error.label}: {error.sentence}")
            lines += [f"    at {error.place}"] if error.place else []
            lines += [f"    log: {error.log_path}"] if error.log_path else []
            lines += [f"    jubako box enter {error.kept_box}"] if error.kept_box else []
        lines += self.missing
        lines += self.recovered
        if self.interrupted:
            lines.append("interrupted; the same command carries on")
        lines.append(f"{self._describe_work()}, {format_seconds(self.wall_s)}")
        return lines

    def _describe_work(self) -> str:
        run, failed = len(self.groups.completed), len(self.groups.failed)
        parts = [f"{run} task{'' if run == 1 else 's'} run"] if run else []
        parts += [f"{failed} {'' if run else 'task ' if failed == 1 else 'tasks '}failed"] if failed else []
        if not parts:
            return "nothing was run"
        return f"{', '.join(parts)}, {'each in a box' if self.mode == 'host' else 'not boxed'}"

    def to_json(self) -> dict[str, Any]:
        """The result as JSON can hold it."""
        return {
            "version": _JSON_VERSION,
            "run": self.run_id,
            "mode": self.mode,
            "status": self.status.name,
            "everything_there": self.everything_there,
            "interrupted": self.interrupted,
            "counts": dict(self.counts),
            "ranges": [
                {
                    "range": account.label,
                    "wanted": account.wanted,
                    "done_before": account.done_before,
                    "run": account.run,
                    "outside": account.outside,
                    "over_limit": account.over_limit,
                    "failed": account.failed,
                    "not_run": account.not_run,
                }
                for account in self.accounts
            ],
            "undeclared": [
                {"task": label, "path": change.path, "change": change.kind, "published": published}
                for published, writes in ((False, self.undeclared), (True, self.undeclared_published))
                for label, changes in writes.items()
                for change in changes
            ],
            "unmade": [{"task": label, "outputs": list(paths)} for label, paths in self.unmade.items()],
            "errors": [
                {
                    "task_id": error.task_id,
                    "task": error.label,
                    "error": error.sentence,
                    "traceback": error.traceback,
                    "log": error.log_path,
                    "kept_box": error.kept_box,
                    "conflict": error.is_conflict,
                    "host": error.is_host,
                }
                for error in self.errors
            ],
            "missing": list(self.missing),
            "recovered": list(self.recovered),
            "notes": list(self.notes),
            "wall_s": round(self.wall_s, 3),
        }


def _is_of_a_library(file: str) -> bool:
    return file.startswith(_NOT_THE_PIPELINE) or "/site-packages/" in file or "/dist-packages/" in file
