"""What attempts print, kept in files: logs/RUN/ATTEMPT.log, made when the first byte comes, cut at a limit.

Beside them `tasks` says whose they are, for who reads along: the ledger learns of an attempt when it is over. A line
for each log, `["7", "Day(date=2010-03-14)", "Day_2010_03_14_0a1b2c3d4e"]`; a crash may leave half of the last one.

Nothing is kept open between two pieces, so the number of attempts that print does not matter; a write that fails (a
full disk) costs the rest of that log and nothing else.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any, Final

__all__ = ["NAMES", "TaskLogs"]

NAMES: Final = "tasks"

_CUT: Final = b"\n[jubako: the rest of the output was not kept, the limit is %d bytes]\n"


class TaskLogs:
    """The logs of one run below `directory`."""

    def __init__(self, directory: str, limit_bytes: int) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._written: dict[str, int] = {}

    def write(self, attempt_id: str, data: bytes, task: Any = None) -> None:
        """Appends to the log of the attempt, which is one at `task`."""
        so_far = self._written.get(attempt_id)
        if so_far is None:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            so_far = 0
            if task is not None:
                self._note(attempt_id, task)
        left = self._limit_bytes - so_far
        self._written[attempt_id] = so_far + len(data)
        if left < 0 or not data:
            return
        if len(data) > left:
            data = data[:left] + _CUT % self._limit_bytes
            self._written[attempt_id] = self._limit_bytes + 1
        try:
            with open(self.path(attempt_id), "ab") as file:
                file.write(data)
        except OSError:
            self._written[attempt_id] = self._limit_bytes + 1

    def find(self, attempt_id: str) -> str:
        """The path of the attempt's log, "" if it printed nothing."""
        return self.path(attempt_id) if self._written.get(attempt_id) else ""

    def forget(self, attempt_id: str) -> None:
        """Lets go of what is remembered of an attempt that has ended; its file stays."""
        self._written.pop(attempt_id, None)

    def _note(self, attempt_id: str, task: Any) -> None:
        line = json.dumps([attempt_id, str(task), task.task_id]) + "\n"
        with suppress(OSError), open(os.path.join(self._directory, NAMES), "a", encoding="ascii") as file:
            file.write(line)  # where it cannot be written, the log goes by its attempt's number

    def path(self, attempt_id: str) -> str:
        """Where the attempt's log is, or would be."""
        return os.path.join(self._directory, f"{attempt_id}.log")
