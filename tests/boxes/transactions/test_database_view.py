"""Looking at the database: what is shown, and that nothing is written, made or kept from others."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from jubako.boxes.transactions import database_view
from jubako.boxes.transactions.database import ensure_schema, open_database, write_transaction
from jubako.boxes.transactions.database_view import view_database
from jubako.errors import HostError

ONE = [["CREATE TABLE one (x)"]]
TWO = [*ONE, ["ALTER TABLE one ADD y DEFAULT 'new'"]]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.sqlite")


def write(path: str, value: int) -> None:
    with closing(open_database(path, durability="relaxed")) as connection:
        ensure_schema(connection, "part", ONE)
        with write_transaction(connection):
            connection.execute("INSERT INTO one VALUES (?)", (value,))


def view(path: str, migrations: list[list[str]] = ONE) -> list[tuple[object, ...]]:
    with view_database(path, "part", migrations) as connection:
        return connection.execute("SELECT * FROM one ORDER BY x").fetchall()


def contents(folder: str) -> dict[str, bytes]:
    return {name: Path(folder, name).read_bytes() for name in sorted(os.listdir(folder))}


def test_database_that_nobody_writes_is_shown_and_left_as_it_is(path: str) -> None:
    write(path, 1)
    before = contents(os.path.dirname(path))
    assert view(path) == [(1,)]
    assert contents(os.path.dirname(path)) == before
    assert list(before) == ["ledger.sqlite"]


def test_missing_database_shows_empty_tables_and_is_not_made(path: str) -> None:
    assert view(path) == []
    assert os.listdir(os.path.dirname(path)) == []


def test_database_that_is_being_written_shows_what_is_committed(path: str) -> None:
    write(path, 1)
    with closing(open_database(path, durability="relaxed")) as writer, write_transaction(writer):
        writer.execute("INSERT INTO one VALUES (2)")
        assert view(path) == [(1,)]
        writer.execute("COMMIT")
        assert view(path) == [(1,), (2,)]
        writer.execute("BEGIN")


def test_log_of_a_killed_writer_is_read_too(path: str, tmp_path: Path) -> None:
    write(path, 1)
    with closing(open_database(path, durability="relaxed")) as writer:
        writer.execute("INSERT INTO one VALUES (2)")
        killed = tmp_path / "killed"
        killed.mkdir()
        for name in ("ledger.sqlite", "ledger.sqlite-wal"):
            shutil.copy(tmp_path / name, killed / name)
    assert view(str(killed / "ledger.sqlite")) == [(1,), (2,)]


def test_writer_that_begins_while_a_copy_is_taken_makes_it_be_taken_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, 1)
    copy, copies = database_view._copy, []

    def copy_late(connection: sqlite3.Connection) -> sqlite3.Connection:
        copies.append(copy(connection))
        if len(copies) == 1:
            write(path, 2)
        return copies[-1]

    monkeypatch.setattr(database_view, "_copy", copy_late)
    assert view(path) == [(1,), (2,)]
    assert len(copies) == 2


def test_older_tables_are_brought_up_to_date_in_a_copy_only(path: str) -> None:
    write(path, 1)
    assert view(path, TWO) == [(1, "new")]
    assert view(path) == [(1,)]


def test_newer_tables_are_refused_with_the_name_of_the_file(path: str) -> None:
    with closing(open_database(path, durability="relaxed")) as connection:
        ensure_schema(connection, "part", TWO)
    with pytest.raises(HostError, match=f"{path} was written by a newer jubako: its part tables have version 2"):
        view(path)


@pytest.mark.parametrize("content", [b"not a database, but long enough to be one" * 100, b"short"])
def test_damaged_database_is_refused_with_its_name_and_left_as_it_is(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    with pytest.raises(HostError, match=f"{path} is damaged"):
        view(path)
    assert contents(os.path.dirname(path)) == {"ledger.sqlite": content}


def test_database_of_another_program_is_refused_and_left_as_it_is(path: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    before = contents(os.path.dirname(path))
    with pytest.raises(HostError, match=f"{path} is the database of another program"):
        view(path)
    assert contents(os.path.dirname(path)) == before


@pytest.mark.parametrize("is_written", [True, False])
def test_user_who_may_only_read_sees_what_is_there(in_user_child, is_written: bool) -> None:
    def act() -> list[tuple[object, ...]]:
        folder = tempfile.mkdtemp()
        path = os.path.join(folder, "ledger.sqlite")
        try:
            write(path, 1)
            with closing(open_database(path, durability="relaxed")) as writer:
                if is_written:
                    writer.execute("INSERT INTO one VALUES (2)")
                else:
                    writer.close()
                for name in os.listdir(folder):
                    os.chmod(os.path.join(folder, name), 0o444)
                os.chmod(folder, 0o555)
                return view(path)
        finally:
            os.chmod(folder, 0o755)
            shutil.rmtree(folder)

    assert in_user_child(act) == ([(1,), (2,)] if is_written else [(1,)])


def test_database_that_may_not_be_read_is_a_host_error(in_user_child) -> None:
    def act() -> str:
        folder = tempfile.mkdtemp()
        path = os.path.join(folder, "ledger.sqlite")
        try:
            write(path, 1)
            os.chmod(path, 0)
            if os.geteuid() == 0:  # to whom nothing is forbidden
                return f"{view(path)}"
            with pytest.raises(HostError) as caught:
                view(path)
            return caught.value.message
        finally:
            shutil.rmtree(folder)

    assert in_user_child(act).endswith(("ledger.sqlite cannot be opened (unable to open database file)", "[(1,)]"))
