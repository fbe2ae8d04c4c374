"""The ledger on a real database file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.boxes.transactions.database import open_database
from jubako.errors import HostError
from jubako.flow.clock import Moment
from jubako.flow.ledger.history import History
from jubako.flow.ledger.ledger import KEEP_ATTEMPTS, AttemptRecord, Ledger, LedgerRun
from jubako.flow.ledger.partitions import Interval, Partition

NOW = Moment("boot-1", 1000.0)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = open_database(str(tmp_path / "ledger.sqlite"), durability="relaxed")
    yield opened
    opened.close()


def begin(ledger: Ledger, run_id: str = "r1", pipeline: str = "p") -> LedgerRun:
    return ledger.begin_run(
        run_id, pipeline, asked="T()", mode="host", pid=7, now=NOW, now_s=50.0, beats=True, is_locked=lambda _: True
    )


def test_attempts_are_read_back_newest_first(connection: sqlite3.Connection) -> None:
    ledger = Ledger(connection)
    run = begin(ledger)
    first = AttemptRecord("1", "T_1", "T(n=1)", "failed", error="it broke", wall_s=1.5)
    second = AttemptRecord("2", "T_1", "T(n=1)", "published", undeclared=["/tmp/x\udcff"], peak_bytes=9)
    with run.transaction():
        run.record([first, second])
    found = History(connection).list_attempts("p", "T_1")
    assert [(a.attempt_id, a.outcome, a.error, a.undeclared) for a in found] == [
        ("2", "published", "", ["/tmp/x\udcff"]),
        ("1", "failed", "it broke", []),
    ]
    assert History(connection).list_attempts("other", "T_1") == []


def test_last_outcomes_are_one_a_task_the_newest_first(connection: sqlite3.Connection) -> None:
    ledger = Ledger(connection)
    run = begin(ledger)
    outcomes = [("T_1", "failed"), ("T_2", "published"), ("U_1", "cancelled"), ("T_1", "published")]
    attempts = [AttemptRecord(str(n), task_id, "", outcome) for n, (task_id, outcome) in enumerate(outcomes)]
    with run.transaction():
        run.record(attempts)
    history = History(connection)
    assert history.list_last_outcomes() == [("T_1", "published"), ("U_1", "cancelled"), ("T_2", "published")]
    assert history.list_last_outcomes("T_") == [("T_1", "published"), ("T_2", "published")]
    assert history.list_last_outcomes("%") == []


def test_record_updates_partitions_with_the_attempts(connection: sqlite3.Connection) -> None:
    ledger = Ledger(connection)
    run = begin(ledger)
    outcomes = ["published", "published", "failed", "conflict", "published"]
    attempts = [
        AttemptRecord(str(n), f"T_{n}", "", outcome, partition=Partition("T", "", "date", "day", n))
        for n, outcome in enumerate(outcomes)
    ]
    with run.transaction():
        run.record(attempts)
    assert History(connection).list_intervals("p", "T") == {
        ("date", "day"): [Interval(0, 2, "done"), Interval(2, 3, "failed"), Interval(4, 5, "done")]
    }


def test_rolled_back_transaction_records_nothing(connection: sqlite3.Connection) -> None:
    ledger = Ledger(connection)
    run = begin(ledger)
    with pytest.raises(KeyboardInterrupt), run.transaction():
        run.record([AttemptRecord("1", "T_1", "", "published")])
        raise KeyboardInterrupt
    assert History(connection).list_attempts("p", "T_1") == []


def test_names_that_are_not_text_are_kept_readable(connection: sqlite3.Connection) -> None:
    ledger = Ledger(connection)
    run = begin(ledger, pipeline="/home/\udcff/p.py")
    with run.transaction():
        run.record([AttemptRecord("1", "T_1", "T(name=\udcfe)", "failed", error="no \udcfd")])
    (found,) = History(connection).list_attempts("/home/\udcff/p.py", "T_1")
    assert (found.label, found.error) == ("T(name=\\udcfe)", "no \\udcfd")


def test_runs_are_listed_newest_first_with_how_they_ended(connection: sqlite3.Connection) -> None:
    ledger = Ledger(connection)
    begin(ledger, "r1").end("SUCCESS", {"done": 3}, 60.0)
    begin(ledger, "r2", pipeline="q")
    runs = History(connection).list_runs()
    assert [(run.run_id, run.status, run.ended_s, run.counts) for run in runs] == [
        ("r2", "", None, {}),
        ("r1", "SUCCESS", 60.0, {"done": 3}),
    ]
    assert [run.run_id for run in History(connection).list_runs("p")] == ["r1"]


def owe(run: LedgerRun, attempt_id: str, outcome: str) -> None:
    attempt = AttemptRecord(attempt_id, f"T_{attempt_id}", f"T(n={attempt_id})", outcome)
    run.record([attempt])
    run.owe(attempt, b"payload " + attempt_id.encode(), 1.0)


def test_owed_calls_stay_until_they_succeed(connection: sqlite3.Connection) -> None:
    ledger = Ledger(connection)
    run = begin(ledger)
    with run.transaction():
        owe(run, "1", "published")
        owe(run, "2", "published")
    run.settle_owed(run.list_owed()[0].number, "no route to host")
    run.end("FAILED", {}, 2.0)
    again = begin(ledger, "r2")
    owed = again.list_owed()
    assert [(o.task_id, o.tries, o.error, o.payload) for o in owed] == [
        ("T_1", 1, "no route to host", b"payload 1"),
        ("T_2", 0, "", b"payload 2"),
    ]
    again.settle_owed(owed[0].number)
    assert [o.task_id for o in again.list_owed()] == ["T_2"]


def test_owed_calls_of_another_living_run_are_its_own(connection: sqlite3.Connection) -> None:
    ledger = Ledger(connection)
    run = begin(ledger)
    with run.transaction():
        owe(run, "1", "published")
    assert begin(ledger, "r2").list_owed() == []
    dead = ledger.begin_run(
        "r3", "p", asked="", mode="host", pid=7, now=NOW, now_s=0.0, beats=True, is_locked=lambda _: False
    )
    assert [o.task_id for o in dead.list_owed()] == ["T_1"]


@pytest.mark.parametrize(("outcome", "due", "status"), [("published", ["T_1"], "done"), ("failed", [], "failed")])
def test_attempt_recorded_before_publishing_is_settled_after(
    connection: sqlite3.Connection, outcome: str, due: list[str], status: str
) -> None:
    ledger = Ledger(connection)
    run = begin(ledger)
    attempt = AttemptRecord("1", "T_1", "T", "publishing", partition=Partition("T", "", "date", "day", 3))
    with run.transaction():
        run.record([attempt])
        run.owe(attempt, b"", 1.0)
    assert (run.list_owed(), History(connection).list_intervals("p", "T")) == ([], {})
    with run.transaction():
        run.settle("1", outcome, "why")
    assert [o.task_id for o in run.list_owed()] == due
    assert History(connection).list_intervals("p", "T") == {("date", "day"): [Interval(3, 4, status)]}
    assert [a.outcome for a in History(connection).list_attempts("p", "T_1")] == [outcome]


@pytest.mark.parametrize(("published", "due", "outcome"), [(True, ["T_1"], "published"), (False, [], "failed")])
def test_attempt_of_a_killed_run_is_settled_by_recovery(
    connection: sqlite3.Connection, published: bool, due: list[str], outcome: str
) -> None:
    ledger = Ledger(connection)
    run = begin(ledger)
    with run.transaction():
        owe(run, "1", "publishing")
    with run.transaction():
        ledger.settle_recovered(connection, "r1", "1", published=published)
        ledger.settle_recovered(connection, "no such run", "1", published=published)
    assert [o.task_id for o in run.list_owed()] == due
    assert [a.outcome for a in History(connection).list_attempts("p", "T_1")] == [outcome]


def test_old_attempts_are_dropped_when_a_run_begins(connection: sqlite3.Connection) -> None:
    ledger = Ledger(connection)
    run = begin(ledger)
    with run.transaction():
        run.record([AttemptRecord("old", "T_1", "", "published")])
        connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'attempts'", (KEEP_ATTEMPTS,))
        run.record([AttemptRecord("new", "T_1", "", "published")])
    begin(ledger, "r2")
    assert [a.attempt_id for a in History(connection).list_attempts("p", "T_1")] == ["new"]


def test_ledger_of_a_newer_jubako_is_refused(connection: sqlite3.Connection) -> None:
    Ledger(connection)
    connection.execute("UPDATE schema SET version = 99 WHERE part = 'ledger'")
    with pytest.raises(HostError, match="written by a newer jubako"):
        Ledger(connection)
