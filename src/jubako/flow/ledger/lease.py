"""Leases: no two runs do the same task at once, and one that was asleep too long cannot publish.

A lease belongs to (pipeline, task id). It is held while its run lives: the run's lock file is locked, and its heartbeat
has not expired. Expiry counts CLOCK_MONOTONIC, which stands still while the machine sleeps, so that a laptop that was
shut keeps its leases and a run that was stopped (SIGSTOP) for longer than the lease loses them. Every grant gets a
token that never repeats; `find_lost` is asked again inside the transaction that makes the journal valid, so a run that
lost its lease meanwhile publishes nothing.

Statements run on the caller's connection (autocommit mode); `claim` and `release` are transactions of their own,
`find_lost` and `release_within` join the caller's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from jubako.boxes.transactions.database import write_transaction
from jubako.flow.clock import Moment

__all__ = ["LEASE_S", "Claim", "Leases", "is_expired", "quick_transaction"]

LEASE_S: Final = 300.0  # a run whose heartbeat is older lost its leases; it beats every tenth of it


class Claim(NamedTuple):
    """Answer to a claim: tokens of what was granted, and who holds the rest."""

    tokens: Mapping[str, int]
    holders: Mapping[str, str]  # task id -> id of the run that holds it


def is_expired(boot_id: str, expires_s: float | None, now: Moment) -> bool:
    """True when a run that said so much can hold nothing any more. `expires_s` None: it does not beat."""
    return boot_id != now.boot_id or (expires_s is not None and expires_s < now.monotonic_s)


class Leases:
    """The leases of one run of one pipeline. `is_locked(run_id)` tells whether that run's lock is held by somebody."""

    def __init__(
        self, connection: sqlite3.Connection, *, pipeline: int, run: int, is_locked: Callable[[str], bool]
    ) -> None:
        self._connection = connection
        self._pipeline = pipeline
        self._run = run
        self._is_locked = is_locked
        self.tokens: dict[str, int] = {}  # what this run holds, by task id
        self.has_company = False  # another run holds or has taken a lease since this one began
        self._last_token = 0

    def begin(self, now: Moment) -> None:
        """Looks who is there, inside the transaction that records the run: before anything is asked if it is done.

        Leases of runs that hold nothing any more are dropped: else every later run would look twice at each task.
        """
        (self._last_token,) = self._connection.execute("SELECT token FROM sequence").fetchone()
        rows = self._connection.execute(
            "SELECT DISTINCT run, run_id, boot_id, expires_s FROM leases LEFT JOIN runs ON runs.number = leases.run"
            " WHERE leases.pipeline = ? AND run != ?",
            (self._pipeline, self._run),
        ).fetchall()
        for run, run_id, boot_id, expires_s in rows:
            if run_id is None or not self._is_holding(run_id, boot_id, expires_s, now):
                self._connection.execute("DELETE FROM leases WHERE pipeline = ? AND run = ?", (self._pipeline, run))
        self.has_company = self._find_others()

    def claim(self, task_ids: Iterable[str], now: Moment) -> Claim:
        """Takes what nobody else holds; leases of dead or expired runs are taken over. Atomic."""
        execute = self._connection.execute
        wanted = [task_id for task_id in task_ids if task_id not in self.tokens]
        holders: dict[str, str] = {}
        with quick_transaction(self._connection):
            for task_id in wanted if self._find_others() else ():
                holder = self._find_holder(task_id, now)
                if holder is not None:
                    holders[task_id] = holder
            granted = [task_id for task_id in wanted if task_id not in holders]
            (last,) = execute("UPDATE sequence SET token = token + ? RETURNING token", (len(granted),)).fetchone()
            # Somebody who has made a task since we asked if it is done has taken a token for it.
            self.has_company |= bool(holders) or last - len(granted) != self._last_token
            self._last_token = last
            tokens = {task_id: last - number for number, task_id in enumerate(granted)}
            self._connection.executemany(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)",
                [(self._pipeline, task_id, self._run, token) for task_id, token in tokens.items()],
            )
        self.tokens.update(tokens)
        return Claim(tokens, holders)

    def find_lost(self, task_ids: Iterable[str]) -> list[str]:
        """Which of `task_ids` this run does not hold any more under the token it was given."""
        lost = []
        for task_id in task_ids:
            row = self._connection.execute(
                "SELECT run, token FROM leases WHERE pipeline = ? AND task_id = ?", (self._pipeline, task_id)
            ).fetchone()
            if row is None or row != (self._run, self.tokens.get(task_id)):
                lost.append(task_id)
        return lost

    def release_within(self, task_ids: Iterable[str]) -> None:
        """Gives leases back inside the caller's transaction; those taken over meanwhile are left alone."""
        self._connection.executemany(
            "DELETE FROM leases WHERE pipeline = ? AND task_id = ? AND run = ? AND token = ?",
            [
                (self._pipeline, task_id, self._run, self.tokens.pop(task_id))
                for task_id in task_ids
                if task_id in self.tokens
            ],
        )

    def release(self, task_ids: Iterable[str]) -> None:
        """Gives leases back. Idempotent."""
        held = [task_id for task_id in task_ids if task_id in self.tokens]
        if held:
            with quick_transaction(self._connection):
                self.release_within(held)

    def _find_others(self) -> bool:
        """True if any other run has a lease here: then each task has to be asked for."""
        row = self._connection.execute(
            "SELECT 1 FROM leases WHERE pipeline = ? AND run != ? LIMIT 1", (self._pipeline, self._run)
        ).fetchone()
        return row is not None

    def _find_holder(self, task_id: str, now: Moment) -> str | None:
        """The id of another, living run that holds the task."""
        row = self._connection.execute(
            "SELECT runs.number, run_id, boot_id, expires_s FROM leases JOIN runs ON runs.number = leases.run"
            " WHERE leases.pipeline = ? AND task_id = ?",
            (self._pipeline, task_id),
        ).fetchone()
        if row is None:
            return None
        run, run_id, boot_id, expires_s = row
        return str(run_id) if run != self._run and self._is_holding(run_id, boot_id, expires_s, now) else None

    def _is_holding(self, run_id: str, boot_id: str, expires_s: float | None, now: Moment) -> bool:
        return not is_expired(boot_id, expires_s, now) and self._is_locked(run_id)


@contextmanager
def quick_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A write transaction that does not wait for the disk.

    A lease is worth something only while its run lives, and no run outlives a power cut; write-ahead mode keeps the
    database whole either way.
    """
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    connection.execute("PRAGMA synchronous=NORMAL")
    try:
        with write_transaction(connection):
            yield
    finally:
        connection.execute(f"PRAGMA synchronous={synchronous}")
