"""The SQLite database of a state root: opening it, its schema versions, its transactions, its errors in words.

Several packages keep tables in the one database, because what they record must change in one commit (the journal with
the ledger). Each part has a name, and a version in the table `schema`; `ensure_schema` brings it up to date.

Callers state transactions themselves (`isolation_level=None`), with `write_transaction`. What a commit survives:

    full      synchronous=FULL: it is on the disk when it returns
    relaxed   synchronous=NORMAL: kill -9 loses nothing; a power cut may lose the last commits, never the database
              (with OFF, which saves 5 microseconds a commit, it could lose the database)

Looking at it without ever writing is `boxes.transactions.database_view`.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import contextmanager
from typing import Literal

from jubako.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import NoReturn

__all__ = [
    "APPLICATION_ID",
    "Durability",
    "ensure_schema",
    "explain_database_error",
    "explaining",
    "open_database",
    "read_owner",
    "read_schema_version",
    "refuse_foreign",
    "refuse_newer",
    "write_transaction",
]

Durability = Literal["full", "relaxed"]

APPLICATION_ID = 0x6A75_626B  # "jubk", in the header of the file (PRAGMA application_id)
_BUSY_S = 30.0
# What is said where pages of a file are not what others say of them: text that is none, tables that are there already.
_GARBLED = ("Could not decode to UTF-8", "table pipelines already exists", "malformed database schema")
_SYNCHRONOUS = {"full": "FULL", "relaxed": "NORMAL"}


def open_database(path: str, *, durability: Durability) -> sqlite3.Connection:
    """A connection to the database at `path`, made where it is missing, in write-ahead mode. Safe concurrently.

    Raises HostError if it cannot be opened, is not SQLite's or not ours.
    """
    try:
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    except sqlite3.Error as error:
        _raise_explained(error, path)
    try:
        # Turning on write-ahead mode does not wait for others who do the same: SQLite answers "locked" at once.
        with _opening(os.path.dirname(path) or "."):
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={_SYNCHRONOUS[durability]}")
            _check_owner(connection, path)
    except sqlite3.Error as error:
        connection.close()
        _raise_explained(error, path)
    except UnicodeDecodeError as error:  # SQLite quotes what it has found in place of a schema
        connection.close()
        raise _damaged(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def ensure_schema(connection: sqlite3.Connection, part: str, migrations: Sequence[Sequence[str]]) -> None:
    """Brings the tables of `part` to version `len(migrations)`; `migrations[n]` are the statements from n to n + 1.

    All or nothing, safe concurrently. Raises HostError if the tables are of a newer version than this program knows.
    """
    if read_schema_version(connection, part) == len(migrations):
        return
    with write_transaction(connection):
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema (part TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID"
        )
        version = read_schema_version(connection, part)
        refuse_newer(_path_of(connection), part, version, len(migrations))
        for statement in (statement for step in migrations[version:] for statement in step):
            connection.execute(statement)
        connection.execute("INSERT OR REPLACE INTO schema VALUES (?, ?)", (part, len(migrations)))


def read_schema_version(connection: sqlite3.Connection, part: str) -> int:
    """The version of the tables of `part`; 0 where there are none."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'schema'").fetchone():
        return 0
    row = connection.execute("SELECT version FROM schema WHERE part = ?", (part,)).fetchone()
    return int(row[0]) if row else 0


def refuse_newer(path: str, part: str, version: int, known: int) -> None:
    """HostError if the tables of `part` are of a `version` above the one that is `known`."""
    if version > known:
        raise HostError(
            f"{path} was written by a newer jubako: its {part} tables have version {version}, "
            f"this one knows up to {known}",
            hint="use the newer jubako, or another state root (JUBAKO_STATE)",
        )


def refuse_foreign(path: str) -> NoReturn:
    """HostError for a database that is not ours."""
    raise HostError(f"{path} is the database of another program", hint="set JUBAKO_STATE to another directory")


@contextmanager
def write_transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Holds the write lock of the database; commits at the end, rolls back on any exception.

    Raises HostError in place of what SQLite says about a full disk, a lock held too long or a damaged file.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite has rolled back by itself after a full disk
                connection.execute("ROLLBACK")
            raise
    except sqlite3.DatabaseError as error:
        path = _path_of(connection)
        if not path:  # a copy in memory: who made it knows of what
            raise
        _raise_explained(error, path)


@contextmanager
def explaining(path: str) -> Iterator[None]:
    """In the block, HostError in place of what SQLite says about the database at `path`, our own mistakes excepted.

    `write_transaction` does that by itself; this is for those who read.
    """
    try:
        yield
    except sqlite3.Error as error:
        _raise_explained(error, path)


def explain_database_error(error: sqlite3.Error, path: str) -> HostError | None:
    """A sentence for what the machine is to blame for; None for what can only be our own mistake."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if str(error).startswith(_GARBLED):
        code = sqlite3.SQLITE_CORRUPT
    match code:
        case sqlite3.SQLITE_FULL:
            return HostError(f"the disk with {path} is full", hint="make room there; nothing was lost")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return HostError(
                f"{path} was locked by another process for more than {_BUSY_S:.0f} s",
                hint="see which one with `fuser -v` on that file",
            )
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return _damaged(path, error)
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return HostError(f"{path} cannot be opened ({error})", hint="look at who owns it")
        case sqlite3.SQLITE_READONLY:
            return HostError(f"{path} cannot be written ({error})", hint="look at who owns it")
        case sqlite3.SQLITE_IOERR:
            return HostError(f"the disk with {path} failed ({error})", hint="look at the kernel's log")
    return None


def read_owner(connection: sqlite3.Connection, path: str) -> tuple[int, int]:
    """Whose database it is: its application id, and how many tables it has."""
    try:
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except UnicodeDecodeError as error:  # as in `open_database`
        raise _damaged(path, error) from error
    return owner, tables


def _damaged(path: str, error: Exception) -> HostError:
    return HostError(
        f"{path} is damaged ({error})",
        hint="move it away to start with an empty history; published outputs are not touched by that",
    )


@contextmanager
def _opening(folder: str) -> Iterator[None]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _raise_explained(error: sqlite3.Error, path: str) -> NoReturn:
    explained = explain_database_error(error, path)
    if explained is None:
        raise error
    raise explained from error


def _check_owner(connection: sqlite3.Connection, path: str) -> None:
    owner, tables = read_owner(connection, path)
    if owner == APPLICATION_ID:
        return
    if owner or tables:
        refuse_foreign(path)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")


def _path_of(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA database_list").fetchone()[2])
