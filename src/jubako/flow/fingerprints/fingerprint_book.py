"""Fingerprints and digests, in tables of their own in the state root's database (part `fingerprints`).

    fingerprints       of each task that tracks changes, what it was made of when it was last published
    open_fingerprints  of attempts that are being published: moved to the former when the journal entry is closed as
                       published, dropped when it is closed as anything else; recovery does the same
    digests            what files held when stat said this of them; may be lost without harm

They are made when a run first meets a task that tracks changes, and then kept for good. A task that is published
without a fingerprint loses the one it had: that says nothing about what is there now.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from jubako.boxes.transactions.database import ensure_schema, write_transaction

__all__ = [
    "FingerprintBook",
    "Made",
    "ensure_fingerprints",
    "find_digest",
    "has_fingerprints",
    "read_fingerprints",
    "settle_fingerprint",
]

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE fingerprints (
            pipeline INTEGER NOT NULL, task_id TEXT NOT NULL, run_id TEXT NOT NULL, made_s REAL NOT NULL,
            made_of TEXT NOT NULL, PRIMARY KEY (pipeline, task_id)) WITHOUT ROWID""",
        """CREATE TABLE open_fingerprints (
            run INTEGER NOT NULL, attempt_id TEXT NOT NULL, pipeline INTEGER NOT NULL, task_id TEXT NOT NULL,
            made_s REAL NOT NULL, made_of TEXT NOT NULL, PRIMARY KEY (run, attempt_id)) WITHOUT ROWID""",
        "CREATE TABLE digests (path TEXT PRIMARY KEY, signature TEXT NOT NULL, digest TEXT NOT NULL) WITHOUT ROWID",
    ),
)
_MANY: Final = 500  # variables in a statement


class Made(NamedTuple):
    """What a task was made of when it was last published, as `Fingerprint.dump` writes it; by which run, and when."""

    run_id: str
    made_s: float
    made_of: str


class AttemptLike(Protocol):
    """What is used here of a `flow.ledger.AttemptRecord`."""

    @property
    def attempt_id(self) -> str: ...
    @property
    def task_id(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def started_s(self) -> float: ...
    @property
    def made_of(self) -> str: ...


class FingerprintBook:
    """Fingerprints of one pipeline, for one run, which writes them."""

    def __init__(self, connection: sqlite3.Connection, *, pipeline: int, run: int) -> None:
        """Makes the tables where they are missing; not inside a transaction."""
        ensure_fingerprints(connection)
        self._connection = connection
        self._pipeline = pipeline
        self._run = run
        of_pipeline = "SELECT 1 FROM fingerprints WHERE pipeline = ? LIMIT 1"
        self._has_any = connection.execute(of_pipeline, (pipeline,)).fetchone() is not None

    def read(self, task_ids: Iterable[str]) -> dict[str, Made]:
        """What is recorded of these tasks."""
        return read_fingerprints(self._connection, self._pipeline, task_ids)

    def note_all(self, attempts: Iterable[AttemptLike]) -> None:
        """Notes what those that are published, or being published, are made of, inside the caller's transaction."""
        for each in attempts:
            self._has_any = self._has_any or bool(each.made_of)
            if not self._has_any:
                continue
            if each.outcome == "published":
                _keep(self._connection, self._run, self._pipeline, each.task_id, each.started_s, each.made_of)
            elif each.outcome == "publishing":
                self._connection.execute(
                    "INSERT OR REPLACE INTO open_fingerprints VALUES (?, ?, ?, ?, ?, ?)",
                    (self._run, each.attempt_id, self._pipeline, each.task_id, each.started_s, each.made_of),
                )

    def find_digest(self, path: str) -> tuple[str, str] | None:
        """What is remembered of a path: a signature, and the digest that goes with it."""
        return find_digest(self._connection, path)

    def write_digests(self, digests: Mapping[str, tuple[str, str]]) -> None:
        """Remembers digests, in a transaction of its own."""
        rows = [(storable_path, *pair) for path, pair in digests.items() if (storable_path := _as_text(path))]
        with write_transaction(self._connection):
            self._connection.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", rows)


def ensure_fingerprints(connection: sqlite3.Connection) -> None:
    """Makes the tables, or brings them up to date. HostError for those of a newer jubako."""
    ensure_schema(connection, "fingerprints", MIGRATIONS)


def has_fingerprints(connection: sqlite3.Connection) -> bool:
    """True if any run has ever kept fingerprints here."""
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'fingerprints'").fetchone() is not None


def read_fingerprints(connection: sqlite3.Connection, pipeline: int, task_ids: Iterable[str]) -> dict[str, Made]:
    """What is recorded of these tasks of a pipeline, by its number."""
    found: dict[str, Made] = {}
    ids = list(task_ids)
    for start in range(0, len(ids), _MANY):
        some = ids[start : start + _MANY]
        rows = connection.execute(
            "SELECT task_id, run_id, made_s, made_of FROM fingerprints WHERE pipeline = ?"
            f" AND task_id IN ({','.join('?' * len(some))})",
            (pipeline, *some),
        )
        found.update((task_id, Made(*row)) for task_id, *row in rows)
    return found


def find_digest(connection: sqlite3.Connection, path: str) -> tuple[str, str] | None:
    """What is remembered of a path, where anything is kept here at all."""
    text = _as_text(path)
    row = connection.execute("SELECT signature, digest FROM digests WHERE path = ?", (text,)).fetchone()
    return None if row is None else (row[0], row[1])


def settle_fingerprint(connection: sqlite3.Connection, run: int, attempt_id: str, *, published: bool) -> None:
    """Keeps or drops what was noted of an attempt that was being published, inside the caller's transaction."""
    row = connection.execute(
        "DELETE FROM open_fingerprints WHERE run = ? AND attempt_id = ? RETURNING pipeline, task_id, made_s, made_of",
        (run, attempt_id),
    ).fetchone()
    if row is not None and published:
        pipeline, task_id, made_s, made_of = row
        _keep(connection, run, pipeline, task_id, made_s, made_of)


def _keep(connection: sqlite3.Connection, run: int, pipeline: int, task_id: str, made_s: float, made_of: str) -> None:
    if not made_of:
        connection.execute("DELETE FROM fingerprints WHERE pipeline = ? AND task_id = ?", (pipeline, task_id))
        return
    connection.execute(
        "INSERT OR REPLACE INTO fingerprints VALUES (?, ?, (SELECT run_id FROM runs WHERE number = ?), ?, ?)",
        (pipeline, task_id, run, made_s, made_of),
    )


def _as_text(path: str) -> str:
    """The path as SQLite can have it; "" for one with bytes that are not UTF-8, of which nothing is remembered."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return ""
    return path
