"""A ledger of every older version is brought up to date, with all that is in it; what is no ledger is left alone."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jubako.boxes.state import StateRoot, open_state_root
from jubako.boxes.transactions.database import open_database, read_schema_version
from jubako.errors import HostError
from jubako.flow.ledger.history import History, open_history
from jubako.flow.ledger.ledger import Ledger
from jubako.flow.ledger.partitions import Interval
from jubako.flow.ledger.schema import MIGRATIONS
from jubako.flow.parameters import IntParameter
from jubako.flow.run.runner import run
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.tasks.task import Task, WrapperTask
from jubako.testing.clock import FakeClock
from jubako.testing.ledger import begin_fake_run

# What version 1 made and wrote, by hand: this is history, and does not follow changes of the code.
VERSION_1 = """
PRAGMA application_id = 0x6A75626B;
CREATE TABLE schema (part TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO schema VALUES ('ledger', 1);
CREATE TABLE pipelines (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE runs (number INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, pipeline INTEGER NOT NULL,
    asked TEXT NOT NULL, mode TEXT NOT NULL, pid INTEGER NOT NULL, boot_id TEXT NOT NULL, expires_s REAL,
    started_s REAL NOT NULL, ended_s REAL, status TEXT NOT NULL DEFAULT '', counts TEXT NOT NULL DEFAULT '{}');
CREATE TABLE attempts (number INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, pipeline INTEGER NOT NULL,
    attempt_id TEXT NOT NULL, task_id TEXT NOT NULL, label TEXT NOT NULL, outcome TEXT NOT NULL, error TEXT NOT NULL,
    started_s REAL NOT NULL, wall_s REAL NOT NULL, cpu_s REAL NOT NULL, peak_bytes INTEGER NOT NULL,
    undeclared TEXT NOT NULL, partition TEXT NOT NULL);
CREATE TABLE partitions (pipeline INTEGER NOT NULL, family TEXT NOT NULL, fixed TEXT NOT NULL, parameter TEXT NOT NULL,
    unit TEXT NOT NULL, first INTEGER NOT NULL, after INTEGER NOT NULL, status TEXT NOT NULL,
    PRIMARY KEY (pipeline, family, fixed, parameter, unit, first)) WITHOUT ROWID;
CREATE TABLE leases (pipeline INTEGER NOT NULL, task_id TEXT NOT NULL, run INTEGER NOT NULL, token INTEGER NOT NULL,
    PRIMARY KEY (pipeline, task_id)) WITHOUT ROWID;
CREATE TABLE pending (number INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, pipeline INTEGER NOT NULL,
    attempt_id TEXT NOT NULL, task_id TEXT NOT NULL, label TEXT NOT NULL, payload BLOB NOT NULL,
    is_due INTEGER NOT NULL, created_s REAL NOT NULL, tries INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '');
CREATE INDEX pending_of_run ON pending (run, attempt_id);
CREATE TABLE sequence (token INTEGER NOT NULL);
INSERT INTO sequence VALUES (41);
INSERT INTO pipelines VALUES (1, 'p.py');
INSERT INTO runs VALUES (7, 'r7', 1, 'Day(date=2010-03-01)', 'host', 99, 'boot', NULL, 5.0, 6.5, 'FAILED',
    '{"failed": 1}');
INSERT INTO attempts VALUES (3, 7, 1, '1', 'Day_1', 'Day(date=2010-03-01)', 'failed', 'it broke', 5.0, 1.0, 0.5, 9,
    '["/x"]', '');
INSERT INTO partitions VALUES (1, 'Day', '', 'date', 'day', 14669, 14670, 'failed');
INSERT INTO pending VALUES (1, 7, 1, '1', 'Owed_1', 'Owed()', X'00', 1, 6.0, 2, 'no route');
"""

VERSION_2 = f"""{VERSION_1}
ALTER TABLE runs ADD COLUMN log_bytes INTEGER;
UPDATE runs SET log_bytes = 12;
UPDATE schema SET version = 2;
"""

VERSION_3 = f"""{VERSION_2}
ALTER TABLE runs ADD kind TEXT NOT NULL DEFAULT 'run';
ALTER TABLE runs ADD wish TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD to_run INTEGER;
UPDATE schema SET version = 3;
"""


@pytest.fixture
def state(tmp_path: Path) -> StateRoot:
    return open_state_root(str(tmp_path))


OLDER = {"version 1": VERSION_1, "version 2": VERSION_2, "version 3": VERSION_3}


@pytest.fixture(params=OLDER.values(), ids=OLDER)
def old(request: pytest.FixtureRequest, state: StateRoot) -> StateRoot:
    with closing(sqlite3.connect(state.ledger_path)) as connection:
        connection.executescript(request.param)
        connection.execute("PRAGMA journal_mode=WAL")
    return state


def test_every_older_version_is_tried() -> None:
    assert len(OLDER) == len(MIGRATIONS) - 1


def check(history: History) -> None:
    (found,) = history.list_runs("p.py")
    assert (found.run_id, found.asked, found.mode, found.pid, found.outcome) == (
        "r7", "Day(date=2010-03-01)", "host", 99, "failed",
    )  # fmt: skip
    assert (found.kind, found.wish, found.to_run, found.counts) == ("run", "", None, {"failed": 1})
    (attempt,) = history.list_attempts("p.py", "Day")
    assert (attempt.run_id, attempt.error, attempt.undeclared) == ("r7", "it broke", ["/x"])
    assert history.list_intervals("p.py", "Day") == {("date", "day"): [Interval(14669, 14670, "failed")]}
    assert history.list_owed("p.py") == {"Owed_1": "no route"}


def test_older_ledger_is_migrated_with_all_that_is_in_it(old: StateRoot, request: pytest.FixtureRequest) -> None:
    log_bytes = {"version 1": None, "version 2": 12, "version 3": 12}[request.node.callspec.id]
    with closing(open_database(old.ledger_path, durability="relaxed")) as connection:
        ledger = Ledger(connection)
        assert read_schema_version(connection, "ledger") == len(MIGRATIONS)
        check(History(connection))
        assert connection.execute("SELECT log_bytes FROM runs").fetchone() == (log_bytes,)
        new = begin_fake_run(ledger, "r8", "p.py")
        assert [owed.task_id for owed in new.list_owed()] == ["Owed_1"]
        assert connection.execute("SELECT number FROM runs WHERE run_id = 'r8'").fetchone() == (8,)
        assert new.shares.take("Day_1", (("gpu", 1),), {"gpu": 1}, FakeClock().moment()) is None


def test_older_ledger_is_read_without_being_migrated(old: StateRoot) -> None:
    before = Path(old.ledger_path).read_bytes()
    with open_history(old.path) as history:
        check(history)
    assert Path(old.ledger_path).read_bytes() == before


def test_migrated_ledger_has_the_same_tables_as_a_new_one(old: StateRoot, tmp_path: Path) -> None:
    def columns(connection: sqlite3.Connection) -> dict[str, list[Any]]:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        return {name: connection.execute(f"PRAGMA table_info({name})").fetchall() for (name,) in tables.fetchall()}

    shutil.copy(old.ledger_path, tmp_path / "copy.sqlite")
    with (
        closing(open_database(str(tmp_path / "copy.sqlite"), durability="relaxed")) as migrated,
        closing(open_database(str(tmp_path / "new.sqlite"), durability="relaxed")) as new,
    ):
        Ledger(migrated)
        Ledger(new)
        assert columns(migrated) == columns(new)


class Nothing(WrapperTask):
    pass


def test_run_with_a_damaged_ledger_is_refused_with_its_name_and_leaves_it(state: StateRoot) -> None:
    path = Path(state.ledger_path)
    path.write_bytes(b"no ledger, and long enough to be looked at " * 40)
    before = path.read_bytes()
    with pytest.raises(HostError, match=f"{path} is damaged"):
        run([Nothing()], state=state.path, box="none")
    assert path.read_bytes() == before


def test_run_with_the_database_of_another_program_is_refused_with_its_name_and_leaves_it(state: StateRoot) -> None:
    path = Path(state.ledger_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(HostError, match=f"{path} is the database of another program"):
        run([Nothing()], state=state.path, box="none")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]


class Numbered(Task):
    n = IntParameter()
    folder = ""

    def output(self) -> LocalTarget:
        return LocalTarget(f"{self.folder}/{self.n}")

    def run(self) -> None:
        with self.output().open("w") as file:
            file.write("made")


def damage(whole: bytes, chance: random.Random) -> bytes:
    """A file of which a few bytes, the beginning of a page, a whole page or the end is something else."""
    data = bytearray(whole)
    page = chance.randrange(1, len(data) // 4096) * 4096
    place, size = chance.choice([(chance.randrange(100, len(data) - 16), 16), (page, 20), (page, 4096), (page, 0)])
    if size == 0:
        return bytes(data[: place + chance.randrange(4096)])
    data[place : place + size] = chance.randbytes(size)
    return bytes(data)


@pytest.mark.parametrize("seeds", [range(50), pytest.param(range(50, 5000), marks=pytest.mark.soak)])
def test_ledger_damaged_anywhere_is_refused_with_its_name_or_works(
    state: StateRoot, monkeypatch: pytest.MonkeyPatch, seeds: range
) -> None:
    monkeypatch.setattr(Numbered, "folder", state.path)
    path = Path(state.ledger_path)
    run([Numbered(n) for n in range(100)], state=state.path, box="none")
    whole = path.read_bytes()
    refused = 0
    for seed in seeds:
        for beside in ("-wal", "-shm"):
            path.with_name(f"{path.name}{beside}").unlink(missing_ok=True)
        path.write_bytes(damage(whole, random.Random(seed)))
        for use in (lambda: look(state), lambda seed=seed: run([Numbered(1000 + seed)], state=state.path, box="none")):
            try:
                use()
            except HostError as error:
                assert error.message.startswith(f"{path} is damaged")
                refused += 1
        assert path.stat().st_size > 0
    assert refused > len(seeds) // 2


def look(state: StateRoot) -> None:
    with open_history(state.path) as history:
        history.list_runs()
        history.list_last_outcomes()
