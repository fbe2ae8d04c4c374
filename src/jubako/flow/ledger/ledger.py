"""The ledger: which runs there were, what each attempt came to, what is owed after publishing. History, not truth.

Whether a task is done is asked of its outputs; this says what happened. It shares the connection of the publishing
journal, so that "published" and "recorded" are one commit:

    journal made valid    `record` with outcome "publishing", `owe`       one transaction, the publisher's
    journal closed        `settle`                                        one transaction, the publisher's
    killed in between     `Ledger.settle_recovered`                       one transaction, recovery's

Tables: `flow.ledger.schema`; leases: `flow.ledger.lease`; reading: `history`; how long it is kept: `retention`. The
connection must be in autocommit mode (`isolation_level=None`); methods that say "inside the caller's transaction" do
not open one, the others do.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

from jubako.boxes.transactions.database import ensure_schema, write_transaction
from jubako.flow.clock import Moment
from jubako.flow.engine.disabling import Ending, read_endings
from jubako.flow.fingerprints.fingerprint_book import (
    FingerprintBook,
    ensure_fingerprints,
    has_fingerprints,
    settle_fingerprint,
)
from jubako.flow.ledger.lease import LEASE_S, Leases
from jubako.flow.ledger.partitions import Partition, PartitionStatus, set_partitions
from jubako.flow.ledger.schema import MIGRATIONS
from jubako.flow.ledger.shares import Shares
from jubako.records import record

__all__ = ["FAILURES", "KEEP_ATTEMPTS", "AttemptRecord", "Ledger", "LedgerRun", "Owed", "storable"]

FAILURES: Final = ("failed", "timeout", "conflict")  # outcomes of attempts; written as SQL writes a list, too
KEEP_ATTEMPTS: Final = 200_000
_INSERT: Final = (
    "INSERT INTO attempts (run, pipeline, attempt_id, task_id, label, outcome, error, started_s, wall_s, cpu_s,"
    " peak_bytes, undeclared, partition) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


@record
class AttemptRecord:
    """What one attempt came to. `partition` is set where the task is dated."""

    attempt_id: str
    task_id: str
    label: str
    outcome: str  # publishing, published, failed, timeout, conflict, cancelled, yielded
    error: str = ""
    started_s: float = 0.0  # seconds since 1970
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    undeclared: Sequence[str] = ()
    partition: Partition | None = None
    made_of: str = ""  # what the task was made of, where it tracks that (`flow.fingerprints.fingerprint`)


class Owed(NamedTuple):
    """An after_publish() call that has not succeeded yet."""

    number: int
    task_id: str
    label: str
    payload: bytes
    tries: int
    error: str


class Ledger:
    """Where runs begin. Safe for several processes; one connection belongs to one thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        ensure_schema(connection, "ledger", MIGRATIONS)
        if has_fingerprints(connection):
            ensure_fingerprints(connection)
        self.connection = connection

    def begin_run(
        self,
        run_id: str,
        pipeline: str,
        *,
        asked: str,
        kind: str = "run",
        mode: str,
        pid: int,
        now: Moment,
        now_s: float,
        beats: bool,
        is_locked: Callable[[str], bool],
    ) -> LedgerRun:
        """Records a run that starts now; of attempts, the newest `KEEP_ATTEMPTS` are kept.

        `beats`: it will call `beat` regularly.
        """
        with write_transaction(self.connection):
            number = self._pipeline(pipeline)
            (run,) = self.connection.execute(
                "INSERT INTO runs (run_id, pipeline, asked, kind, mode, pid, boot_id, expires_s, started_s)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number",
                (
                    run_id,
                    number,
                    storable(asked),
                    kind,
                    mode,
                    pid,
                    now.boot_id,
                    now.monotonic_s + LEASE_S if beats else None,
                    now_s,
                ),
            ).fetchone()
            self._drop_old_attempts()
            begun = LedgerRun(self.connection, run=run, pipeline=number, is_locked=is_locked)
            begun.leases.begin(now)
        return begun

    def wish(self, run_id: str, wish: str) -> bool:
        """Tells a run that has not ended what is wanted of it, "" to go on; False if it has ended meanwhile."""
        with write_transaction(self.connection):
            changed = self.connection.execute(
                "UPDATE runs SET wish = ? WHERE run_id = ? AND ended_s IS NULL", (wish, run_id)
            )
        return changed.rowcount == 1

    def settle_recovered(
        self, connection: sqlite3.Connection, run_id: str, attempt_id: str, *, published: bool
    ) -> None:
        """Notes what recovery made of an attempt that was being published, inside the caller's transaction."""
        row = connection.execute(
            "SELECT attempts.number, run FROM attempts JOIN runs ON runs.number = run"
            " WHERE run_id = ? AND attempt_id = ? AND outcome = 'publishing'",
            (run_id, attempt_id),
        ).fetchone()
        if row is not None:
            if has_fingerprints(connection):
                settle_fingerprint(connection, row[1], attempt_id, published=published)
            error = "" if published else "its run was killed while publishing it; everything was put back"
            _settle(connection, row[0], "published" if published else "failed", error)

    def _pipeline(self, name: str) -> int:
        self.connection.execute("INSERT OR IGNORE INTO pipelines (name) VALUES (?)", (storable(name),))
        (number,) = self.connection.execute("SELECT number FROM pipelines WHERE name = ?", (storable(name),)).fetchone()
        return int(number)

    def _drop_old_attempts(self) -> None:
        self.connection.execute(
            "DELETE FROM attempts WHERE number <= (SELECT max(number) FROM attempts) - ?", (KEEP_ATTEMPTS,)
        )


class LedgerRun:
    """Writing, for one run. `leases` holds what it may work on, `shares` what its tasks take of what runs share."""

    def __init__(
        self, connection: sqlite3.Connection, *, run: int, pipeline: int, is_locked: Callable[[str], bool]
    ) -> None:
        self._connection = connection
        self._run = run
        self._pipeline = pipeline
        self._is_locked = is_locked
        self.leases = Leases(connection, pipeline=pipeline, run=run, is_locked=is_locked)
        self.shares = Shares(connection, run=run, is_locked=is_locked)
        self._unsettled: dict[str, int] = {}  # rows of attempts that are being published
        self._fingerprints: FingerprintBook | None = None
        if has_fingerprints(connection):
            self.track()

    def track(self) -> FingerprintBook:
        """Where fingerprints are kept, from now on also of what this run publishes without; not in a transaction."""
        if self._fingerprints is None:
            self._fingerprints = FingerprintBook(self._connection, pipeline=self._pipeline, run=self._run)
        return self._fingerprints

    def record(self, attempts: Sequence[AttemptRecord]) -> None:
        """Writes attempts and the state of their partitions, inside the caller's transaction."""
        rows = [self._row(attempt) for attempt in attempts if attempt.outcome != "publishing"]
        self._connection.executemany(_INSERT, rows)
        for attempt in attempts:
            if attempt.outcome == "publishing":
                number = self._connection.execute(_INSERT, self._row(attempt)).lastrowid
                self._unsettled[attempt.attempt_id] = number or 0
        if self._fingerprints is not None:
            self._fingerprints.note_all(attempts)
        for status, outcomes in _PARTITION_STATUS.items():
            found = [a.partition for a in attempts if a.partition is not None and a.outcome in outcomes]
            set_partitions(self._connection, self._pipeline, found, status)

    def settle(self, attempt_id: str, outcome: str, error: str = "") -> None:
        """Notes what became of an attempt recorded as "publishing", inside the caller's transaction."""
        number = self._unsettled.pop(attempt_id, None)
        if number is not None:
            if self._fingerprints is not None:
                is_published = outcome == "published"
                settle_fingerprint(self._connection, self._run, attempt_id, published=is_published)
            _settle(self._connection, number, outcome, error)

    def owe(self, attempt: AttemptRecord, payload: bytes, now_s: float) -> None:
        """Notes an after_publish() call, inside the caller's transaction.

        It is due when the attempt is settled as published, or at once if it is published already, and dropped when the
        attempt is settled as anything else.
        """
        self._connection.execute(
            "INSERT INTO pending (run, pipeline, attempt_id, task_id, label, payload, is_due, created_s)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._run,
                self._pipeline,
                attempt.attempt_id,
                attempt.task_id,
                storable(attempt.label),
                payload,
                attempt.outcome == "published",
                now_s,
            ),
        )

    def list_owed(self) -> list[Owed]:
        """The calls of this pipeline that are due, oldest first; other living runs make theirs themselves."""
        rows = self._connection.execute(
            "SELECT pending.number, task_id, label, payload, tries, error, run, run_id, ended_s"
            " FROM pending LEFT JOIN runs ON runs.number = run WHERE pending.pipeline = ? AND is_due"
            " ORDER BY pending.number",
            (self._pipeline,),
        ).fetchall()
        return [
            Owed(*row)
            for *row, run, run_id, ended_s in rows
            if run == self._run or run_id is None or ended_s is not None or not self._is_locked(run_id)
        ]

    def settle_owed(self, number: int, error: str = "") -> None:
        """Strikes out an owed call that returned, or notes why it did not."""
        with self.transaction() as connection:
            if error:
                connection.execute(
                    "UPDATE pending SET tries = tries + 1, error = ? WHERE number = ?", (storable(error), number)
                )
            else:
                connection.execute("DELETE FROM pending WHERE number = ?", (number,))

    def read_endings(self) -> dict[str, list[Ending]]:
        """How attempts at this pipeline's tasks have ended, oldest first, for each task that ever failed."""
        return read_endings(self._connection, self._pipeline)

    def note_plan(self, to_run: int) -> None:
        """Notes how many tasks the run is going to run, for those who look how far it is."""
        with self.transaction() as connection:
            connection.execute("UPDATE runs SET to_run = ? WHERE number = ?", (to_run, self._run))

    def read_wish(self) -> str:
        """What somebody wants of this run: "pause", "cancel", or nothing."""
        row = self._connection.execute("SELECT wish FROM runs WHERE number = ?", (self._run,)).fetchone()
        return "" if row is None else str(row[0])  # a damaged database may have lost the row

    def beat(self, now: Moment) -> None:
        """Says that the run lives; its leases hold for another LEASE_S."""
        self._expire(now.monotonic_s + LEASE_S)

    def stop_beating(self) -> None:
        """Says that this run will not beat for long stretches: from now on only its lock tells that it lives."""
        self._expire(None)

    def end(self, status: str, counts: Mapping[str, int], now_s: float, *, log_bytes: int | None = None) -> None:
        """Closes the run and gives back all that it holds. Idempotent. `log_bytes`: of its logs, None if not known."""
        with self.transaction():
            self._connection.execute("DELETE FROM leases WHERE run = ?", (self._run,))
            self._connection.execute("DELETE FROM shares WHERE run = ?", (self._run,))
            self._connection.execute(
                "UPDATE runs SET ended_s = ?, status = ?, counts = ?, log_bytes = ? WHERE number = ?",
                (now_s, status, json.dumps(dict(counts)), log_bytes, self._run),
            )
        self.leases.tokens.clear()

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """One commit for what is written in the `with` block; rolled back if it raises."""
        return write_transaction(self._connection)

    def _row(self, attempt: AttemptRecord) -> tuple[object, ...]:
        is_open = attempt.outcome == "publishing"
        return (
            self._run,
            self._pipeline,
            attempt.attempt_id,
            attempt.task_id,
            storable(attempt.label),
            attempt.outcome,
            storable(attempt.error),
            attempt.started_s,
            attempt.wall_s,
            attempt.cpu_s,
            attempt.peak_bytes,
            json.dumps(list(attempt.undeclared)) if attempt.undeclared else "[]",
            _encode_partition(attempt.partition) if is_open else "",
        )

    def _expire(self, expires_s: float | None) -> None:
        with self.transaction() as connection:
            connection.execute("UPDATE runs SET expires_s = ? WHERE number = ?", (expires_s, self._run))


_PARTITION_STATUS: Final[Mapping[PartitionStatus, frozenset[str]]] = {
    "failed": frozenset({"failed", "timeout"}),
    "done": frozenset({"published"}),
}


def _settle(connection: sqlite3.Connection, number: int, outcome: str, error: str) -> None:
    """Settles the attempt in row `number`, with its partition and the call it owes."""
    run, pipeline, attempt_id, partition = connection.execute(
        "SELECT run, pipeline, attempt_id, partition FROM attempts WHERE number = ?", (number,)
    ).fetchone()
    connection.execute(
        "UPDATE attempts SET outcome = ?, error = ?, partition = '' WHERE number = ?",
        (outcome, storable(error), number),
    )
    if partition:
        for status, outcomes in _PARTITION_STATUS.items():
            if outcome in outcomes:
                set_partitions(connection, pipeline, [Partition(*json.loads(partition))], status)
    if outcome == "published":
        connection.execute("UPDATE pending SET is_due = 1 WHERE run = ? AND attempt_id = ?", (run, attempt_id))
    else:
        connection.execute("DELETE FROM pending WHERE run = ? AND attempt_id = ?", (run, attempt_id))


def _encode_partition(partition: Partition | None) -> str:
    if partition is None:
        return ""
    return json.dumps([partition.family, partition.fixed, partition.parameter, partition.unit, partition.place])


def storable(text: str) -> str:
    """`text` with lone surrogates (bytes of names that are not UTF-8) spelt out: SQLite's text is UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
