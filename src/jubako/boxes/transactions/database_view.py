"""Looking at the database of a state root: nothing is written, made, locked out or brought up to date.

A command that shows history may be run beside a run that writes, by somebody who may only read, and by a jubako whose
tables are newer than the file's. What it looks at is

    the file itself      while it has a write-ahead log, which readers and the writer share
    a copy in memory     while it has none: nobody writes, and opening it would make a log beside it. If that was
                         wrong (a run has just begun), the file or its log says so afterwards, and it is copied again
    a migrated copy      where the tables are older than this program's
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final
from urllib.parse import quote

from jubako.boxes.transactions.database import (
    APPLICATION_ID,
    ensure_schema,
    explaining,
    read_owner,
    read_schema_version,
    refuse_foreign,
    refuse_newer,
)
from jubako.errors import HostError

__all__ = ["view_database"]

_WAIT_S: Final = 30.0
_TRIES: Final = 100  # copies taken of a file that changes meanwhile; each new one means that another run has ended


@contextmanager
def view_database(path: str, part: str, migrations: Sequence[Sequence[str]]) -> Iterator[sqlite3.Connection]:
    """A connection that shows the tables of `part` as `migrations` leave them; empty ones if there is no file.

    Raises HostError for a file that cannot be read, is damaged, not ours, or of a newer version. It is left as it is.
    """
    with explaining(path), closing(_open(path)) as connection:
        version = read_schema_version(connection, part)
        refuse_newer(path, part, version, len(migrations))
        if version == len(migrations):
            yield connection
            return
        with closing(_copy(connection)) as older:
            ensure_schema(older, part, migrations)
            yield older


def _open(path: str) -> sqlite3.Connection:
    for _ in range(_TRIES):
        if not os.path.exists(path):
            return _connect(":memory:")
        if os.path.exists(f"{path}-wal"):
            connection = _connect(f"file:{quote(path)}?mode=ro")
            try:
                _check_owner(connection, path)
            except BaseException:
                connection.close()
                raise
            return connection
        copied = _copy_file(path)
        if copied is not None:
            return copied
    raise HostError(f"{path} changes faster than it can be read", hint="try again")


def _copy_file(path: str) -> sqlite3.Connection | None:
    """A copy of the file in memory; None if somebody began to write meanwhile."""
    before = _signature(path)
    with closing(_connect(f"file:{quote(path)}?immutable=1")) as connection:
        try:
            _check_owner(connection, path)
            copied = _copy(connection)
        except (sqlite3.DatabaseError, HostError):
            if _is_quiet(path, before):
                raise
            return None
    if _is_quiet(path, before):
        return copied
    copied.close()
    return None


def _is_quiet(path: str, before: tuple[int, int, int] | None) -> bool:
    return not os.path.exists(f"{path}-wal") and _signature(path) == before


def _signature(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _connect(name: str) -> sqlite3.Connection:
    return sqlite3.connect(name, uri=True, timeout=_WAIT_S, isolation_level=None)


def _copy(connection: sqlite3.Connection) -> sqlite3.Connection:
    copied = _connect(":memory:")
    connection.backup(copied)
    return copied


def _check_owner(connection: sqlite3.Connection, path: str) -> None:
    """HostError for a database that is not ours; an empty one may become ours."""
    owner, tables = read_owner(connection, path)
    if owner != APPLICATION_ID and (owner or tables):
        refuse_foreign(path)
