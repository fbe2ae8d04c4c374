"""What the runs on this machine take of a resource together: a GPU, the connections a database allows.

A run says how much there is (`RunOptions.shared_resources`); what its tasks take while they run is written to the
ledger, whatever their pipeline. Runs that say different amounts each keep to their own. What a dead run took counts
no more: it lives as its leases do (`lease`). Nobody waits in a queue: who finds too little asks again, so a task
that wants much can be passed by others that want little.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping

from jubako.flow.clock import Moment
from jubako.flow.engine.resources import Needs
from jubako.flow.ledger.lease import is_expired, quick_transaction

__all__ = ["Shares"]


class Shares:
    """What one run has taken. `is_locked(run_id)` tells whether that run's lock is held by somebody."""

    def __init__(self, connection: sqlite3.Connection, *, run: int, is_locked: Callable[[str], bool]) -> None:
        self._connection = connection
        self._run = run
        self._is_locked = is_locked
        self._held: set[str] = set()

    def take(self, task_id: str, needs: Needs, capacities: Mapping[str, int], now: Moment) -> str | None:
        """Takes all of `needs` for a task (None), or nothing; then it returns the name of what is short. Atomic."""
        with quick_transaction(self._connection):
            for name, amount in needs:
                if self._used(name, now) + amount > capacities[name]:
                    return name
            self._connection.executemany(
                "INSERT INTO shares (resource, run, task_id, amount) VALUES (?, ?, ?, ?)",
                [(name, self._run, task_id, amount) for name, amount in needs],
            )
        self._held.add(task_id)
        return None

    def give_back(self, task_id: str) -> None:
        """Gives back what a task has taken, if it has. Idempotent."""
        if task_id in self._held:
            self._held.remove(task_id)
            with quick_transaction(self._connection):
                self._connection.execute("DELETE FROM shares WHERE run = ? AND task_id = ?", (self._run, task_id))

    def _used(self, name: str, now: Moment) -> int:
        """How much of a resource living runs have; what dead ones left is dropped."""
        used = 0
        rows = self._connection.execute(
            "SELECT run, sum(amount), run_id, boot_id, expires_s FROM shares LEFT JOIN runs ON runs.number = run"
            " WHERE resource = ? GROUP BY run",
            (name,),
        ).fetchall()
        for run, amount, run_id, boot_id, expires_s in rows:
            if run == self._run or (
                run_id is not None and not is_expired(boot_id, expires_s, now) and self._is_locked(run_id)
            ):
                used += amount
            else:
                self._connection.execute("DELETE FROM shares WHERE run = ?", (run,))
        return used
