"""What tasks printed, read back: by run and task, whole, from the end, or along with a run that writes.

A log is there from its first byte on, and grows; from the middle of one that grows too long the writer takes away, and
says how much. Whose it is, the file `tasks` beside it says (`task_log`), or the ledger, which also knows the
attempts that failed without a word.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from jubako.errors import InputError
from jubako.flow.ledger.history import History, PastAttempt, PastRun, suggest
from jubako.flow.ledger.ledger import FAILURES, KEEP_ATTEMPTS
from jubako.flow.ledger.task_log import NAMES, describe_gap, find_gap
from jubako.records import record

__all__ = ["Follower", "TaskLog", "list_logs", "read_log"]

_PIECE_BYTES: Final = 1 << 16
_LOG: Final = re.compile(r"(\d+|after-\d+)\.log")


class _Name(NamedTuple):
    """What `tasks` says of a log. `limit_bytes` None: it says nothing."""

    label: str
    task_id: str = ""
    limit_bytes: int | None = None
    members: Sequence[_Name] = ()

    def make_log(self, attempt_id: str, path: str) -> TaskLog:
        members = [member.make_log(attempt_id, path) for member in self.members]
        return TaskLog(attempt_id, self.label, path, self.task_id, members=members)


@record
class TaskLog:
    """What one attempt printed. `outcome` is empty while it works, and where the ledger has forgotten it.

    `members` are the tasks that a batch stood for, which have its log; of any other attempt there are none.
    """

    attempt_id: str
    label: str
    path: str  # "" if it printed nothing
    task_id: str = ""
    outcome: str = ""
    error: str = ""
    members: Sequence[TaskLog] = ()

    def find(self, task: str) -> TaskLog | None:
        """This one if `task` names it (by id, as a whole, or by family), else that of its members which it names."""
        return next((log for log in (self, *self.members) if log._is_named(task)), None)

    def _is_named(self, task: str) -> bool:
        return task in (self.task_id, self.label) or self.label.startswith(f"{task}(")


def list_logs(history: History, run: PastRun, directory: str, task: str | None = None) -> list[TaskLog]:
    """The logs of a run, in the order in which the attempts began, and with them what failed and printed nothing.

    With `task` only those that it names, also if they printed nothing; InputError, with suggestions, if none is.
    """
    attempts: dict[str, list[PastAttempt]] = {}  # of a batch the batch's own first
    for found in reversed(history.list_attempts(run_id=run.run_id, limit=KEEP_ATTEMPTS)):
        attempts.setdefault(found.attempt_id, []).append(found)
    written = _find_logs(directory)
    names = _read_names(directory)
    logs: list[TaskLog] = []
    for attempt_id in sorted(attempts.keys() | written.keys(), key=_place):
        path = written.get(attempt_id, "")
        if attempt_id in attempts:
            own, *others = attempts[attempt_id]
            logs.append(_make_log(own, path, [_make_log(other, path) for other in others]))
        else:
            logs.append(_name(names, attempt_id).make_log(attempt_id, path))
    if task is None:
        return [log for log in logs if log.path or log.outcome in FAILURES]
    chosen = [named for log in logs if (named := log.find(task)) is not None]
    if not chosen and not run.is_living:
        families = sorted({log.label.partition("(")[0] for log in logs})
        hint = suggest(task.partition("(")[0], families) or f"it tried {', '.join(families[:5]) or 'nothing'}"
        raise InputError(f"run {run.run_id} has not tried {task}", hint=hint)
    return chosen


def read_log(path: str, *, last_lines: int | None = None) -> Iterator[bytes]:
    """The log in pieces; of its last lines only, if so many are wanted."""
    with open(path, "rb") as file:
        if last_lines is not None:
            file.seek(_find_last_lines(path, last_lines))
        while piece := file.read(_PIECE_BYTES):
            yield piece


class Follower:
    """Reads the logs of one run as they grow. Only the last lines of what is there at first, if so many are wanted.

    What was taken away before it could be read is said as the log says it: nothing is missing without a word.
    """

    def __init__(self, directory: str, *, task: str | None = None, last_lines: int | None = None) -> None:
        self._directory = directory
        self._task = task
        self._last_lines = last_lines
        self._read: dict[str, int] = {}  # how much of what each attempt has printed was given, or said to be missing

    def look(self) -> Iterator[tuple[TaskLog, bytes]]:
        """What has come since the last look, in pieces."""
        found = _find_logs(self._directory)
        names = _read_names(self._directory)  # in this order: a log is named before it is made
        for attempt_id, path in sorted(found.items(), key=lambda item: _place(item[0])):
            name = _name(names, attempt_id)
            log = name.make_log(attempt_id, path)
            if self._task is not None and log.find(self._task) is None:
                continue
            read = self._read.get(attempt_id, 0)
            if attempt_id not in self._read and self._last_lines is not None:
                read = _find_start(path, self._last_lines, name.limit_bytes)
            for end, piece in _read_on(path, read, name.limit_bytes):
                read = end
                yield log, piece
            self._read[attempt_id] = read
        self._last_lines = None


def _read_on(path: str, read: int, limit_bytes: int | None) -> Iterator[tuple[int, bytes]]:
    """What was printed after the first `read` bytes, in pieces, each with the number of bytes printed at its end."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            gap = None if limit_bytes is None else find_gap(fd, limit_bytes)
            place, size_bytes = read, _PIECE_BYTES
            if gap is not None and read < gap.head_bytes:
                size_bytes = min(size_bytes, gap.head_bytes - read)
            elif gap is not None and limit_bytes is not None:
                resumes = gap.head_bytes + gap.left_out
                if read < resumes:
                    yield resumes, describe_gap(resumes - read, limit_bytes)
                    read = resumes
                place = read - gap.left_out + gap.line_bytes
            piece = os.pread(fd, size_bytes, place)
            if limit_bytes is not None and find_gap(fd, limit_bytes) != gap:  # the writer has moved it meanwhile
                continue
            if not piece:
                return
            read += len(piece)
            yield read, piece
    finally:
        os.close(fd)


def _find_start(path: str, last_lines: int, limit_bytes: int | None) -> int:
    """How much was printed before the last lines that the log has."""
    if limit_bytes is None:
        return _find_last_lines(path, last_lines)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            gap = find_gap(fd, limit_bytes)
            place = _find_last_lines(path, last_lines)
            if find_gap(fd, limit_bytes) == gap:  # else the writer has moved it meanwhile
                break
    finally:
        os.close(fd)
    if gap is None or place < gap.head_bytes:
        return place
    return max(gap.head_bytes, place - gap.line_bytes + gap.left_out)


def _find_logs(directory: str) -> dict[str, str]:
    """The paths of the logs in there, by attempt."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:  # nothing was printed
        return {}
    return {match[1]: os.path.join(directory, name) for name in names if (match := _LOG.fullmatch(name))}


def _read_names(directory: str) -> Mapping[str, _Name]:
    """What is said of each attempt that printed something."""
    try:
        with open(os.path.join(directory, NAMES), encoding="ascii") as file:
            lines = file.read().split("\n")[:-1]  # a line without an end is not whole yet
    except FileNotFoundError:
        return {}
    names: dict[str, _Name] = {}
    for attempt_id, label, task_id, limit_bytes in map(json.loads, lines):
        name, first = _Name(label, task_id, limit_bytes), names.get(attempt_id)
        names[attempt_id] = name if first is None else first._replace(members=[*first.members, name])
    return names


def _make_log(attempt: PastAttempt, path: str, members: Sequence[TaskLog] = ()) -> TaskLog:
    return TaskLog(attempt.attempt_id, attempt.label, path, attempt.task_id, attempt.outcome, attempt.error, members)


def _name(names: Mapping[str, _Name], attempt_id: str) -> _Name:
    """What a log is called by. What is called after publishing has the task's own name in its label."""
    name = names.get(attempt_id, _Name(f"attempt {attempt_id}"))
    if attempt_id.startswith("after-"):
        return name._replace(label=f"{name.label}.after_publish()")
    return name


def _place(attempt_id: str) -> tuple[bool, int]:
    return attempt_id.startswith("after-"), int(attempt_id.removeprefix("after-"))


def _find_last_lines(path: str, count: int) -> int:
    """Where in the file its last `count` lines begin; reads no more of it than they are long."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        wanted = count + 1  # the line end in front of them
        position = end
        while position > 0:
            step = min(_PIECE_BYTES, position)
            position -= step
            file.seek(position)
            piece = file.read(step)
            if position + step == end and not piece.endswith(b"\n"):
                wanted -= 1  # the last line has no end
            found = len(piece)
            while wanted > 0 and (found := piece.rfind(b"\n", 0, found)) >= 0:
                wanted -= 1
            if wanted == 0:
                return position + found + 1
        return 0
