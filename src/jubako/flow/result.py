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
from jubako.flow.summary import Groups, RunStatus, format_lines, format_summary, get_status
from jubako.home import PACKAGE
from jubako.records import field, record

if TYPE_CHECKING:
    from jubako.layers.change import Change

__all__ = ["RunResult", "TaskError"]

_JSON_VERSION: Final = 1
_STOPPED_NAMED: Final = 3
_FRAME: Final = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)
_CAUSED: Final = re.compile(r"^(?:The above exception was the direct cause|During handling of the above exc).*$", re.M)
_PYTHON: Final = ("<frozen", os.path.dirname(os.__file__) + os.sep)
_OURS: Final = PACKAGE + os.sep
_USED: Final = re.compile(r"/(?:site|dist)-packages/(?:fsspec|s3fs|aiobotocore|botocore)/")  # by us
_INSTALLED: Final = ("/site-packages/", "/dist-packages/")


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
    hint: str = ""  # the next thing to try, where it is known

    @property
    def place(self) -> str:
        """The innermost line of the pipeline in the traceback, "/data/pipeline.py:27, in run"; "" if there is none.

        Python's own files and jubako's are never it. What is installed is passed over as a library; if there is nothing
        else, so is the pipeline, and it is what jubako called; but not what an error was caused by, where jubako itself
        may have called a library.
        """
        frames = _find_frames(self.traceback)
        theirs = [frame for frame in frames if not any(folder in frame[0] for folder in _INSTALLED)]
        found = theirs[-1:] or _find_frames(_CAUSED.split(self.traceback)[-1])[:1]
        return "{}:{}, in {}".format(*found[0]) if found else ""


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
    stopped: Sequence[str] = ()  # tasks that were running when the run was interrupted
    accounts: Sequence[RangeAccount] = ()
    undeclared: Mapping[str, Sequence[Change]] = field(default_factory=dict)  # by task, what was written and dropped
    undeclared_published: Mapping[str, Sequence[Change]] = field(default_factory=dict)
    unmade: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by task that counts as done: outputs not there
    errors: Sequence[TaskError] = ()
    missing: Sequence[str] = ()  # what tasks without a run() stand for and is not there, a sentence each
    notes: Sequence[str] = ()
    recovered: Sequence[str] = ()  # what an earlier run had begun to publish and this one finished or undid
    left_out: int = 0  # how much of what ranges wanted is not there and counts as missing: strict mode
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

    def format_summary_lines(self) -> list[str]:
        """The same line by line, whatever line feeds the values of parameters hold."""
        return format_lines(self.groups)

    def format_report(self) -> list[str]:
        """Our lines after it: what ranges left out, undeclared writes, errors, seconds.

        Notes are not among them: an observer is told each as it comes, and `notes` has them all.
        """
        lines = format_accounts(self.accounts)
        lines += format_undeclared(self.undeclared)
        lines += format_undeclared(self.undeclared_published, published=True)
        lines += [f"{label} ran and did not make {', '.join(paths)}" for label, paths in self.unmade.items()]
        hints: set[str] = {""}
        for error in self.errors:
            lines.append(f"{error.label}: {error.sentence}")
            lines += [] if error.hint in hints else [f"    hint: {error.hint}"]
            hints.add(error.hint)
            lines += [f"    at {error.place}"] if error.place else []
            lines += [f"    log: {error.log_path}"] if error.log_path else []
            lines += [f"    jubako box enter {error.kept_box}"] if error.kept_box else []
        lines += self.missing
        lines += self.recovered
        if self.interrupted:
            lines.append(f"interrupted{self._describe_interrupt()}; the same command carries on")
        if self.left_out and not self.errors and not self.interrupted:  # else those say why
            lines.append(f"exit code 1: --strict counts the {self.left_out} that ranges left out as missing")
        lines.append(f"{self._describe_work()}, {format_seconds(self.wall_s)}")
        return lines

    def _describe_interrupt(self) -> str:
        """What Ctrl-C cut short: Luigi's summary has no word for that, and says that no permission was granted."""
        parts = []
        if self.stopped:
            names = list(self.stopped[:_STOPPED_NAMED])
            more = len(self.stopped) - len(names)
            names += [f"{more} more"] if more else []
            parts.append(f"{_join(names)} {'was' if len(self.stopped) == 1 else 'were'} stopped")
        not_begun = len(self.groups.not_run) - len(self.stopped)
        if not_begun > 0:
            parts.append(f"{not_begun} task{' was' if not_begun == 1 else 's were'} not begun")
        return f": {', '.join(parts)}" if parts else ""

    def _describe_work(self) -> str:
        groups = self.groups
        parts: list[str] = []
        for count, what in (
            (len(groups.completed), "run"),
            (len(groups.failed), "failed"),
            (len(self.stopped), "stopped"),
        ):
            if count:
                noun = "" if parts else " task" if count == 1 else " tasks"
                parts.append(f"{count}{noun} {what}")
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
            "stopped": list(self.stopped),
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
            "left_out": self.left_out,
            "recovered": list(self.recovered),
            "notes": list(self.notes),
            "wall_s": round(self.wall_s, 3),
        }


def _join(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _find_frames(text: str) -> list[tuple[str, str, str]]:
    """File, line and function of each frame of a traceback that is neither Python's own nor ours."""
    return [frame for frame in _FRAME.findall(text) if not _is_python_or_ours(frame[0])]


def _is_python_or_ours(file: str) -> bool:
    if file.startswith(_OURS) or _USED.search(file):
        return True
    return file.startswith(_PYTHON) and not any(folder in file for folder in _INSTALLED)
