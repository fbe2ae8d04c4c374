from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.boxes.transactions.database import ensure_schema
from jubako.boxes.transactions.journal import EntryState, Journal, open_database, write_transaction
from jubako.boxes.transactions.move import PlannedMove
from jubako.boxes.transactions.planned import MOVES_OF_A_PART, PlannedMoves
from jubako.boxes.transactions.signature import Signature
from jubako.errors import BugError
from jubako.layers.entry import LETTERS
from jubako.records import replace

PATHS = st.binary(min_size=1, max_size=20).filter(lambda raw: b"\0" not in raw).map(lambda raw: "/" + os.fsdecode(raw))
SIGNATURES = st.none() | st.builds(
    Signature,
    st.just(0),
    st.integers(0, 2**63),
    st.integers(0),
    st.integers(),
    st.sampled_from(list(LETTERS)),
    st.text(),
)
MOVES = st.builds(PlannedMove, PATHS, PATHS, SIGNATURES, SIGNATURES, st.integers(0, 2**63), st.lists(PATHS).map(tuple))


FIRST_VERSION = (
    """CREATE TABLE journal (
        number INTEGER PRIMARY KEY,
        run_id TEXT NOT NULL,
        id TEXT NOT NULL,
        label TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('forward', 'back')),
        moves TEXT NOT NULL,
        reason TEXT NOT NULL DEFAULT '',
        UNIQUE (run_id, id)
    )""",
    "CREATE TABLE places (run_id TEXT NOT NULL, path BLOB NOT NULL, PRIMARY KEY (run_id, path)) WITHOUT ROWID",
)


class Owner:
    run_id = "run"

    def find_sync_descriptor(self, device: int) -> int | None:
        return None

    def make_aside(self, target: str) -> str:
        return target


@pytest.fixture
def journal(tmp_path):
    connection = open_database(str(tmp_path / "ledger.sqlite"), durability="relaxed")
    yield Journal(connection)
    connection.close()


@settings(max_examples=50)
@given(label=st.text(), moves=st.lists(MOVES, max_size=4))
def test_opened_entry_is_read_back_as_it_was(label, moves):
    connection = open_database(":memory:", durability="relaxed")
    journal = Journal(connection)
    journal.owner = Owner()
    with write_transaction(connection):
        journal.open("id", label, PlannedMoves(moves))
    (entry,) = journal.entries("run")
    assert list(entry.moves) == moves
    assert (entry.run_id, entry.id, entry.state, entry.reason) == ("run", "id", EntryState.FORWARD, "")
    connection.close()


def test_entries_come_in_the_order_they_were_opened(journal):
    journal.owner = Owner()
    with write_transaction(journal.connection):
        for name in ("b", "c", "a"):
            journal.open(name, name, PlannedMoves())
    assert [entry.id for entry in journal.entries("run")] == ["b", "c", "a"]
    assert journal.entries("other") == []


def test_entry_goes_back_waits_and_closes(journal):
    journal.owner = Owner()
    with write_transaction(journal.connection):
        journal.open("id", "label", PlannedMoves())
    journal.turn_back("run", "id", os.fsdecode(b"\xff changed"))
    assert [(entry.state, entry.reason) for entry in journal.entries("run")] == [(EntryState.BACK, r"\xff changed")]
    journal.wait("run", "id", "a person")
    assert [(entry.state, entry.reason) for entry in journal.entries("run")] == [(EntryState.BACK, "a person")]
    with write_transaction(journal.connection):
        journal.close("run", "id")
    assert journal.entries("run") == []


def test_all_parts_of_many_moves_are_written_replaced_alone_and_deleted(journal):
    journal.owner = Owner()
    file = Signature(0, 1, 1, 1, "file")
    moves = PlannedMoves(PlannedMove(f"/out/{n}", f"/stage/{n}", file, None, 1) for n in range(3 * MOVES_OF_A_PART))
    with write_transaction(journal.connection):
        for id in ("first", "second"):
            journal.open(id, "label", moves)
    for part in (0, 2):
        moves.replace(part, [replace(group, staging="/beside") for group in moves.part(part)])
        journal.replace_part("run", "second", part, moves)
    first, second = journal.entries("run")
    assert {move.aside.rpartition("/")[0] for move in first.moves} == {"/stage"}
    places = [move.aside.rpartition("/")[0] for move in second.moves]
    expected = ["/beside", "/stage", "/beside"]
    assert places == [place for place in expected for _ in range(MOVES_OF_A_PART)]
    with write_transaction(journal.connection):
        journal.close("run", "first")
    assert [len(entry.moves) for entry in journal.entries("run")] == [3 * MOVES_OF_A_PART]
    with write_transaction(journal.connection):
        journal.close("run", "second")
    assert journal.connection.execute("SELECT count(*) FROM parts").fetchone() == (0,)


def test_row_of_the_first_version_is_read(tmp_path):
    path = str(tmp_path / "ledger.sqlite")
    connection = open_database(path, durability="relaxed")
    ensure_schema(connection, "journal", [FIRST_VERSION])
    move = {"target": "/a", "aside": "/s/0", "content": [5, 1, 2, 3, "f", ""], "expected": None}
    text = json.dumps([move | {"folder_inode": 9, "made": []}])
    connection.execute("INSERT INTO journal VALUES (1, 'run', 'id', 'label', 'back', ?, 'because')", (text,))
    (entry,) = Journal(connection).entries("run")
    connection.close()
    assert (entry.id, entry.state, entry.reason) == ("id", EntryState.BACK, "because")
    assert list(entry.moves) == [PlannedMove("/a", "/s/0", Signature(0, 1, 2, 3, "file"), None, 9)]


def test_id_opened_twice_is_a_bug(journal):
    journal.owner = Owner()
    with pytest.raises(BugError, match="open already"), write_transaction(journal.connection):
        journal.open("id", "label", PlannedMoves())
        journal.open("id", "label", PlannedMoves())
    assert journal.entries("run") == []


def test_journal_without_an_owner_cannot_be_written(journal):
    with pytest.raises(BugError, match="no owner"), write_transaction(journal.connection):
        journal.open("id", "label", PlannedMoves())


def test_journal_serves_one_run_at_a_time(journal):
    journal.owner = Owner()
    with pytest.raises(BugError, match="cannot serve"):
        journal.owner = Owner()
    journal.owner = None
    journal.owner = Owner()


def test_places_are_remembered_whatever_their_name(journal):
    hostile = os.fsdecode(b"/data/\xff\n/.jubako-stage/run")
    journal.add_place("run", hostile)
    journal.add_place("run", hostile)
    journal.add_place("other", "/x")
    assert journal.places("run") == [hostile]
    assert journal.run_ids() == {"run", "other"}
    journal.add_place("run", "/data/.jubako-trial-run")
    assert journal.hidden_folders() == [os.path.dirname(hostile)]
    journal.remove_places("run")
    assert journal.places("run") == []
    assert journal.run_ids() == {"other"}
