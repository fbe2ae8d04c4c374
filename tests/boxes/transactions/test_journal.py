from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.boxes.transactions.journal import EntryState, Journal, open_database, write_transaction
from jubako.boxes.transactions.move import PlannedMove
from jubako.boxes.transactions.signature import Signature
from jubako.errors import BugError
from jubako.layers.entry import LETTERS

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
        journal.open("id", label, moves)
    (entry,) = journal.entries("run")
    assert entry.moves == tuple(moves)
    assert (entry.run_id, entry.id, entry.state, entry.reason) == ("run", "id", EntryState.FORWARD, "")
    connection.close()


def test_entries_come_in_the_order_they_were_opened(journal):
    journal.owner = Owner()
    with write_transaction(journal.connection):
        for name in ("b", "c", "a"):
            journal.open(name, name, [])
    assert [entry.id for entry in journal.entries("run")] == ["b", "c", "a"]
    assert journal.entries("other") == []


def test_entry_goes_back_waits_and_closes(journal):
    journal.owner = Owner()
    with write_transaction(journal.connection):
        journal.open("id", "label", [])
    journal.turn_back("run", "id", os.fsdecode(b"\xff changed"))
    assert [(entry.state, entry.reason) for entry in journal.entries("run")] == [(EntryState.BACK, r"\xff changed")]
    journal.wait("run", "id", "a person")
    assert [(entry.state, entry.reason) for entry in journal.entries("run")] == [(EntryState.BACK, "a person")]
    with write_transaction(journal.connection):
        journal.close("run", "id")
    assert journal.entries("run") == []


def test_id_opened_twice_is_a_bug(journal):
    journal.owner = Owner()
    with pytest.raises(BugError, match="open already"), write_transaction(journal.connection):
        journal.open("id", "label", [])
        journal.open("id", "label", [])
    assert journal.entries("run") == []


def test_journal_without_an_owner_cannot_be_written(journal):
    with pytest.raises(BugError, match="no owner"), write_transaction(journal.connection):
        journal.open("id", "label", [])


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
