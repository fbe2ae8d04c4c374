from __future__ import annotations

import os
import sqlite3
import threading

import pytest

from jubako.boxes.transactions.database import ensure_schema, explain_database_error, open_database, write_transaction
from jubako.errors import HostError
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.mounts import attach

ONE = [["CREATE TABLE one (x)"]]
TWO = [*ONE, ["ALTER TABLE one ADD y", "CREATE TABLE two (z)"]]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "ledger.sqlite")


def tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("relaxed", 1)])
def test_opened_database_logs_ahead_and_syncs_as_asked(path, durability, synchronous):
    connection = open_database(path, durability=durability)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    connection.close()


def test_schema_is_made_and_brought_up_to_date_part_by_part(path):
    connection = open_database(path, durability="relaxed")
    ensure_schema(connection, "first", ONE)
    ensure_schema(connection, "first", ONE)
    connection.execute("INSERT INTO one VALUES (1)")
    ensure_schema(connection, "other", [["CREATE TABLE other (x)"]])
    ensure_schema(connection, "first", TWO)
    assert tables(connection) == {"schema", "one", "two", "other"}
    assert connection.execute("SELECT x, y FROM one").fetchall() == [(1, None)]
    connection.close()


def test_schema_of_a_newer_program_is_refused_with_both_versions(path):
    connection = open_database(path, durability="relaxed")
    ensure_schema(connection, "first", TWO)
    with pytest.raises(HostError, match=r"newer jubako.*version 2.*up to 1"):
        ensure_schema(connection, "first", ONE)
    connection.close()


def test_failing_migration_leaves_the_version_before(path):
    connection = open_database(path, durability="relaxed")
    ensure_schema(connection, "first", ONE)
    with pytest.raises(sqlite3.OperationalError):
        ensure_schema(connection, "first", [*ONE, ["CREATE TABLE two (z)", "no such statement"]])
    assert tables(connection) == {"schema", "one"}
    connection.close()


def test_exception_in_a_transaction_rolls_it_back(path):
    connection = open_database(path, durability="relaxed")
    ensure_schema(connection, "first", ONE)
    with pytest.raises(KeyboardInterrupt), write_transaction(connection):
        connection.execute("INSERT INTO one VALUES (1)")
        raise KeyboardInterrupt
    assert connection.execute("SELECT count(*) FROM one").fetchone() == (0,)
    assert not connection.in_transaction
    connection.close()


def test_many_openers_at_once_make_one_schema(path):
    problems: list[Exception] = []
    start = threading.Barrier(8)

    def open_it() -> None:
        try:
            start.wait()
            connection = open_database(path, durability="relaxed")
            ensure_schema(connection, "first", TWO)
            with write_transaction(connection):
                connection.execute("INSERT INTO one VALUES (1, 2)")
            connection.close()
        except (HostError, sqlite3.Error) as error:
            problems.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    connection = open_database(path, durability="relaxed")
    assert connection.execute("SELECT count(*) FROM one").fetchone() == (8,)
    connection.close()


def test_database_of_another_program_is_refused_and_untouched(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    with pytest.raises(HostError, match="another program"):
        open_database(path, durability="full")
    connection = sqlite3.connect(path)
    assert tables(connection) == {"theirs"}
    connection.close()


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be one" * 100, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_damaged_database_is_a_host_error(path, content):
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(HostError, match=r"ledger.sqlite is damaged"):
        open_database(path, durability="full")


def test_directory_in_place_of_the_database_is_a_host_error(path):
    os.mkdir(path)
    with pytest.raises(HostError, match="cannot be opened"):
        open_database(path, durability="full")


def test_full_disk_is_a_host_error_and_the_database_goes_on_when_there_is_room(in_namespace):
    def act() -> None:
        os.mkdir("small")
        attach(tmpfs(size_bytes=256 << 10), "small")
        connection = open_database("small/ledger.sqlite", durability="full")
        ensure_schema(connection, "first", ONE)
        ballast = os.open("small/ballast", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError, match="No space"):
            while True:
                os.write(ballast, bytes(4096))
        os.close(ballast)
        with pytest.raises(HostError, match="is full"), write_transaction(connection):
            connection.execute("INSERT INTO one VALUES (?)", (bytes(100_000),))
        assert not connection.in_transaction
        os.unlink("small/ballast")
        with write_transaction(connection):
            connection.execute("INSERT INTO one VALUES (1)")
        assert connection.execute("SELECT x FROM one").fetchall() == [(1,)]
        connection.close()

    in_namespace(act)


def test_mistakes_of_our_own_stay_what_they_are(path):
    connection = open_database(path, durability="relaxed")
    with pytest.raises(sqlite3.OperationalError, match="no such table"), write_transaction(connection):
        connection.execute("INSERT INTO missing VALUES (1)")
    assert explain_database_error(sqlite3.IntegrityError("x"), path) is None
    connection.close()
