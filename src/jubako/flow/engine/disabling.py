"""Which tasks have failed so often of late that they are left alone for a while.

A task is disabled when its last `after` endings were failures, no more than `window_s` apart, and less than `for_s`
have passed since. A success starts the count anew, whichever run had it. Endings come from the ledger; nothing else is
stored.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Disabling", "Ending", "Limit", "Verdict", "describe_disabled", "judge", "read_endings"]


class Ending(NamedTuple):
    """How an attempt ended, and when, in seconds since 1970."""

    is_failure: bool
    ended_s: float


class Limit(NamedTuple):
    """What a run says: `after` so many failures (None: as a task says itself; 0: never), within, and for, so long."""

    after: int | None = None
    window_s: float = 3600.0  # where a task says nothing else
    for_s: float = 86_400.0


class Verdict(NamedTuple):
    """How often a task may fail before it is disabled (None: as often as it likes); until when it is, if it is."""

    tries_left: int | None = None
    until_s: float | None = None


def read_endings(connection: sqlite3.Connection, pipeline: int) -> dict[str, list[Ending]]:
    """How attempts at a pipeline's tasks have ended, oldest first, for each task that ever failed, by its id."""
    rows = connection.execute(
        "SELECT task_id, outcome, started_s + wall_s FROM attempts WHERE pipeline = ?1"
        " AND outcome IN ('failed', 'timeout', 'published') AND task_id IN"
        " (SELECT task_id FROM attempts WHERE pipeline = ?1 AND outcome IN ('failed', 'timeout')) ORDER BY number",
        (pipeline,),
    )
    endings: dict[str, list[Ending]] = {}
    for task_id, outcome, ended_s in rows:
        endings.setdefault(task_id, []).append(Ending(outcome != "published", ended_s))
    return endings


class Disabling:
    """The verdict on each task of a run. `read_endings` gives the endings, oldest first, of tasks that ever failed."""

    def __init__(self, read_endings: Callable[[], Mapping[str, Sequence[Ending]]], limit: Limit, now_s: float) -> None:
        self._read_endings = read_endings
        self._limit = limit
        self._now_s = now_s
        self._endings: Mapping[str, Sequence[Ending]] | None = None

    def judge(self, task: Any) -> Verdict:
        """The verdict on `task`; what the run says goes before what the task says only where that turns it off."""
        of_run, of_task = self._limit.after, task.disable_after
        after = of_run if of_run == 0 or of_task is None else of_task
        if not after:
            return Verdict()
        if self._endings is None:
            self._endings = self._read_endings()
        window_s = self._limit.window_s if task.disable_window is None else task.disable_window
        endings = self._endings.get(task.task_id, ())
        return judge(endings, after=int(after), window_s=float(window_s), for_s=self._limit.for_s, now_s=self._now_s)


def describe_disabled(until_s: float) -> str:
    """What is the matter with a disabled task, to follow its name."""
    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(until_s))
    return f"has failed too often and is disabled until {until}"


def judge(endings: Sequence[Ending], *, after: int, window_s: float, for_s: float, now_s: float) -> Verdict:
    """The verdict on a task with these endings, oldest first."""
    failures: list[float] = []
    until_s = 0.0
    for is_failure, ended_s in endings:
        if not is_failure:
            failures, until_s = [], 0.0
            continue
        failures = [*(earlier_s for earlier_s in failures if earlier_s >= ended_s - window_s), ended_s]
        if len(failures) >= after:
            until_s = ended_s + for_s
    if until_s > now_s:
        return Verdict(0, until_s)
    recent = sum(ended_s >= now_s - window_s for ended_s in failures)
    return Verdict(max(1, after - recent))
