"""How far each schedule is, in the database of the state root: its part `schedules`.

    schedules   pipeline, name: which; rule: its cron and zone; settled_s: all firings up to this second since 1970 were
                started or given up. Another rule begins anew.

A firing is claimed before it is started, by moving `settled_s` over it in one transaction: of any number of processes
one succeeds, and a moment that was claimed never comes again. A scheduler killed between the two loses that firing.

Of two schedulers of a pipeline neither would know what the other has running or waiting, so there is one at a time: it
holds an flock on `schedules/DIGEST.lock`, in which its process id is. The lock ends with the process, also by kill -9.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from jubako.boxes.transactions.database import ensure_schema, open_database, write_transaction
from jubako.errors import ConflictError

if TYPE_CHECKING:
    import sqlite3

    from jubako.boxes.state import StateRoot
    from jubako.boxes.transactions.database import Durability

__all__ = ["ScheduleBook", "hold_schedules", "open_schedule_book"]

_MIGRATIONS: Final = (
    (
        """CREATE TABLE schedules (
            pipeline TEXT NOT NULL, name TEXT NOT NULL, rule TEXT NOT NULL, settled_s INTEGER NOT NULL,
            PRIMARY KEY (pipeline, name)) WITHOUT ROWID""",
    ),
)


class ScheduleBook:
    """The schedules of one pipeline. Safe for several processes; one connection belongs to one thread."""

    def __init__(self, connection: sqlite3.Connection, pipeline: str) -> None:
        ensure_schema(connection, "schedules", _MIGRATIONS)
        self._connection = connection
        self._pipeline = pipeline

    def begin(self, name: str, rule: str, now_s: int) -> tuple[int, bool]:
        """Up to where the schedule is settled; and if it is known under this rule. A new one begins at `now_s`."""
        with write_transaction(self._connection) as connection:
            row = connection.execute(
                "SELECT settled_s FROM schedules WHERE pipeline = ? AND name = ? AND rule = ?",
                (self._pipeline, name, rule),
            ).fetchone()
            if row is not None:
                return int(row[0]), True
            connection.execute(
                "INSERT OR REPLACE INTO schedules VALUES (?, ?, ?, ?)", (self._pipeline, name, rule, now_s)
            )
        return now_s, False

    def settle(self, name: str, moment_s: int) -> bool:
        """Settles everything up to `moment_s`; False if that was settled before. Atomic."""
        with write_transaction(self._connection) as connection:
            changed = connection.execute(
                "UPDATE schedules SET settled_s = ? WHERE pipeline = ? AND name = ? AND settled_s < ?",
                (moment_s, self._pipeline, name, moment_s),
            )
            return changed.rowcount == 1


@contextmanager
def hold_schedules(state: StateRoot, pipeline: str) -> Iterator[None]:
    """Makes this process the scheduler of a pipeline for the block. ConflictError names another that is."""
    folder = os.path.join(state.path, "schedules")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    digest = hashlib.blake2b(os.fsencode(pipeline), digest_size=8).hexdigest()
    fd = os.open(os.path.join(folder, f"{digest}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 20, 0).decode(errors="replace").strip() or "unknown"
            raise ConflictError(
                f"the schedules of {pipeline} are being run already, by process {holder}",
                hint="one scheduler of a pipeline is enough; --list shows what comes next",
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


@contextmanager
def open_schedule_book(state: StateRoot, pipeline: str, *, durability: Durability) -> Iterator[ScheduleBook]:
    """The book of a state root, open for the block only: nothing of it is open while a run is started."""
    connection = open_database(state.ledger_path, durability=durability)
    try:
        yield ScheduleBook(connection, pipeline)
    finally:
        connection.close()
