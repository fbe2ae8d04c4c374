"""Fingerprints in the ledger's database: kept with the commit that publishes, dropped with one that does not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jubako.boxes.state import open_state_root
from jubako.boxes.transactions.database import ensure_schema, open_database, read_schema_version, write_transaction
from jubako.errors import HostError
from jubako.flow.fingerprints.fingerprint_book import MIGRATIONS, has_fingerprints
from jubako.flow.ledger.history import History
from jubako.flow.ledger.ledger import AttemptRecord, Ledger, LedgerRun
from jubako.testing.ledger import begin_fake_run


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    state = open_state_root(str(tmp_path))
    with closing(open_database(state.ledger_path, durability="relaxed")) as connection:
        yield connection


@pytest.fixture
def ledger(connection: sqlite3.Connection) -> Ledger:
    return Ledger(connection)


def record(run: LedgerRun, outcome: str, made_of: str, attempt_id: str = "1") -> None:
    with run.transaction():
        run.record([AttemptRecord(attempt_id, "T_1", "T()", outcome, started_s=5.0, made_of=made_of)])


def settle(run: LedgerRun, outcome: str, attempt_id: str = "1") -> None:
    with run.transaction():
        run.settle(attempt_id, outcome)


def made_of(ledger: Ledger) -> str | None:
    made = History(ledger.connection).list_made("p", ["T_1"]).get("T_1")
    return None if made is None else made.made_of


def test_tables_are_made_when_they_are_first_needed(ledger: Ledger) -> None:
    run = begin_fake_run(ledger, "r1", "p")
    record(run, "published", "")
    assert not has_fingerprints(ledger.connection)
    assert made_of(ledger) is None
    run.track()
    assert read_schema_version(ledger.connection, "fingerprints") == 1
    record(run, "published", "a")
    assert made_of(ledger) == "a"


def test_tables_of_a_newer_jubako_are_refused(ledger: Ledger) -> None:
    ensure_schema(ledger.connection, "fingerprints", (*MIGRATIONS, ("CREATE TABLE x (y)",)))
    with pytest.raises(HostError, match="its fingerprints tables have version 2, this one knows up to 1"):
        Ledger(ledger.connection)


def test_what_is_being_published_counts_when_it_is(ledger: Ledger) -> None:
    run = begin_fake_run(ledger, "r1", "p")
    run.track()
    record(run, "publishing", "a")
    assert made_of(ledger) is None
    settle(run, "published")
    made = History(ledger.connection).list_made("p", ["T_1"])["T_1"]
    assert made == ("r1", 5.0, "a")
    record(run, "publishing", "b", "2")
    settle(run, "conflict", "2")
    assert made_of(ledger) == "a"
    record(run, "failed", "c", "3")
    assert made_of(ledger) == "a"


@pytest.mark.parametrize(("published", "expected"), [(True, "b"), (False, "a")])
def test_recovery_settles_what_a_run_left_open(ledger: Ledger, published: bool, expected: str) -> None:
    run = begin_fake_run(ledger, "r1", "p")
    run.track()
    record(run, "published", "a")
    record(run, "publishing", "b", "2")
    with write_transaction(ledger.connection) as connection:
        ledger.settle_recovered(connection, "r1", "2", published=published)
    assert made_of(ledger) == expected
    assert ledger.connection.execute("SELECT count(*) FROM open_fingerprints").fetchone() == (0,)


def test_task_published_without_one_loses_its_own(ledger: Ledger) -> None:
    first = begin_fake_run(ledger, "r1", "p")
    first.track()
    record(first, "published", "a")
    record(begin_fake_run(ledger, "r2", "other"), "published", "")
    assert made_of(ledger) == "a"
    second = begin_fake_run(ledger, "r3", "p")
    record(second, "publishing", "")
    settle(second, "published")
    assert made_of(ledger) is None


def test_digests_are_remembered_by_path(ledger: Ledger) -> None:
    book = begin_fake_run(ledger, "r1", "p").track()
    book.write_digests({"/a": ("sign", "digest"), "/\udcff": ("sign", "digest")})
    history = History(ledger.connection)
    assert history.find_digest("/a") == book.find_digest("/a") == ("sign", "digest")
    assert history.find_digest("/b") is None
    assert history.find_digest("/\udcff") is None  # no text for SQLite: it is read each time


def test_history_without_fingerprints_has_none(ledger: Ledger) -> None:
    begin_fake_run(ledger, "r1", "p")
    history = History(ledger.connection)
    assert (history.list_made("p", ["T_1"]), history.list_made("q", []), history.find_digest("/a")) == ({}, {}, None)
