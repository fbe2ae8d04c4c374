"""What attempts print, kept in files: logs/RUN/ATTEMPT.log, made when the first byte comes.

Beside them `tasks` says whose they are, for who reads along: the ledger learns of an attempt when it is over. A line
for each log, `["7", "Day(date=2010-03-14)", "Day_2010_03_14_0a1b2c3d4e", 10000000]`, with its limit in bytes; more
lines with the same number name those that a batch stood for. A crash may leave half of the last one.

Of what is too long the beginning and the end are kept, half of the limit each, and a line in between that says how
much is missing. While the attempt prints its file may be half as large again.

Nothing is kept open or in memory between two pieces, so the number of attempts that print does not matter; a write that
fails (a full disk) costs the rest of that log and nothing else.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from jubako.records import record

__all__ = ["NAMES", "Gap", "TaskLogs", "describe_gap", "find_gap"]

NAMES: Final = "tasks"

_LEFT_OUT: Final = b"\n[jubako: %d bytes are left out here; of what a task prints %d bytes are kept]\n"
_GAP: Final = re.compile(rb"\n\[jubako: (\d+) bytes are left out here; of what a task prints \d+ bytes are kept\]\n")
_LINE_BYTES: Final = len(_LEFT_OUT) + 2 * len(str(1 << 63))  # the longest such line, or a little more


class Gap(NamedTuple):
    """What a log lacks: `left_out` bytes behind the first `head_bytes`, where a line of `line_bytes` says so."""

    head_bytes: int
    line_bytes: int
    left_out: int


def find_gap(fd: int, limit_bytes: int) -> Gap | None:
    """The gap in the log open as `fd`, which was written with this limit; None if it is whole so far."""
    head_bytes = _head_bytes(limit_bytes)
    match = _GAP.match(os.pread(fd, _LINE_BYTES, head_bytes))
    return None if match is None else Gap(head_bytes, match.end(), int(match[1]))


def describe_gap(left_out: int, limit_bytes: int) -> bytes:
    """The line that stands in a log for bytes that it lacks."""
    return _LEFT_OUT % (left_out, limit_bytes)


@record(frozen=False)
class _Log:
    """One attempt's. `size_bytes` is its file's, `printed_bytes` what was to be in it."""

    printed_bytes: int = 0
    size_bytes: int = 0
    is_broken: bool = False


class TaskLogs:
    """The logs of one run below `directory`."""

    def __init__(self, directory: str, limit_bytes: int) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._head_bytes = _head_bytes(limit_bytes)
        self._tail_bytes = limit_bytes - self._head_bytes
        self._logs: dict[str, _Log] = {}
        self._other_bytes = 0  # of logs that are closed, and of the file that names them all

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return self._other_bytes + sum(log.size_bytes for log in self._logs.values())

    def write(self, attempt_id: str, data: bytes, tasks: Sequence[Any] = ()) -> None:
        """Appends to the log of the attempt, which is one at the first of `tasks`, and stands for the others."""
        if not data:
            return
        log = self._logs.get(attempt_id)
        if log is None:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            log = self._logs[attempt_id] = _Log()
            if tasks:
                self._note(attempt_id, tasks)
        log.printed_bytes += len(data)
        if log.is_broken:
            return
        try:
            with open(self.path(attempt_id), "ab") as file:
                file.write(data)
            log.size_bytes += len(data)
            if log.size_bytes > self._limit_bytes + self._tail_bytes:
                self._cut(attempt_id, log)
        except OSError:
            log.is_broken = True

    def find(self, attempt_id: str) -> str:
        """The path of the attempt's log, "" if it printed nothing."""
        return self.path(attempt_id) if attempt_id in self._logs else ""

    def close(self, attempt_id: str) -> None:
        """Brings the log of an attempt that has ended to its limit, and lets go of what is remembered of it."""
        log = self._logs.pop(attempt_id, None)
        if log is None:
            return
        if log.printed_bytes > self._limit_bytes and not log.is_broken:
            with suppress(OSError):  # it is whole, and longer than it should be
                self._cut(attempt_id, log)
        self._other_bytes += log.size_bytes

    def path(self, attempt_id: str) -> str:
        """Where the attempt's log is, or would be."""
        return os.path.join(self._directory, f"{attempt_id}.log")

    def _note(self, attempt_id: str, tasks: Sequence[Any]) -> None:
        facts = [[attempt_id, str(task), task.task_id, self._limit_bytes] for task in tasks]
        lines = "".join(json.dumps(fact) + "\n" for fact in facts)
        with suppress(OSError):  # where it cannot be written, the log goes by its attempt's number
            with open(os.path.join(self._directory, NAMES), "a", encoding="ascii") as file:
                file.write(lines)
            self._other_bytes += len(lines)

    def _cut(self, attempt_id: str, log: _Log) -> None:
        """Leaves the beginning and the end of what was printed; a line that says what is missing replaces the last."""
        left_out = log.printed_bytes - self._head_bytes - self._tail_bytes
        with open(self.path(attempt_id), "r+b") as file:
            file.seek(log.size_bytes - self._tail_bytes)
            tail = file.read()
            file.seek(self._head_bytes)
            file.truncate()
            file.write(describe_gap(left_out, self._limit_bytes) + tail)
            log.size_bytes = file.tell()


def _head_bytes(limit_bytes: int) -> int:
    """How much of the beginning is kept of a log that is too long."""
    return limit_bytes - limit_bytes // 2
