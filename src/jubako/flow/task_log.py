"""What attempts print, kept in files: logs/RUN/ATTEMPT.log, made when the first byte comes.

Of what is too long the beginning and the end are kept, half of the limit each, and a line in between that says how
much is missing. While the attempt prints its file may be half as large again.

Nothing is kept open or in memory between two pieces, so the number of attempts that print does not matter; a write that
fails (a full disk) costs the rest of that log and nothing else.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from jubako.records import record

__all__ = ["TaskLogs"]

_LEFT_OUT: Final = b"\n[jubako: %d bytes are left out here; of what a task prints %d bytes are kept]\n"


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
        self._tail_bytes = limit_bytes // 2
        self._head_bytes = limit_bytes - self._tail_bytes
        self._logs: dict[str, _Log] = {}
        self._closed_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return self._closed_bytes + sum(log.size_bytes for log in self._logs.values())

    def write(self, attempt_id: str, data: bytes) -> None:
        """Appends to the attempt's log."""
        if not data:
            return
        log = self._logs.get(attempt_id)
        if log is None:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            log = self._logs[attempt_id] = _Log()
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
        self._closed_bytes += log.size_bytes

    def path(self, attempt_id: str) -> str:
        """Where the attempt's log is, or would be."""
        return os.path.join(self._directory, f"{attempt_id}.log")

    def _cut(self, attempt_id: str, log: _Log) -> None:
        """Leaves the beginning and the end of what was printed; a line that says what is missing replaces the last."""
        left_out = log.printed_bytes - self._head_bytes - self._tail_bytes
        with open(self.path(attempt_id), "r+b") as file:
            file.seek(log.size_bytes - self._tail_bytes)
            tail = file.read()
            file.seek(self._head_bytes)
            file.truncate()
            file.write(_LEFT_OUT % (left_out, self._limit_bytes) + tail)
            log.size_bytes = file.tell()
