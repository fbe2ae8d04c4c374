"""The journal: which transactions are being published right now, and where staged things lie. Rows, no file access.

Tables (part "journal" of the database, see `boxes.transactions.database`):

    journal   number  run_id  id  label  state  moves  reason  published
              one row for a transaction, while it is between valid and closed
    parts     number  part  moves
              further moves of the row of that number, from part 1 on
    places    run_id  path
              what a run makes outside the state root, but for outputs

`moves` is a part of `planned`, a blob; so is `path` of places. Validity: a row is there or it is not; SQLite's commit
decides. The row of a transaction is committed, with its parts, after its staged data is (`full`: on the disk) and
before the first rename; it is deleted after the last one is. A place is committed before it is made, and deleted after
it is gone.

    (no row) ──open──> FORWARD ──close──────────────────────> (no row)      published
                        │    │ ↺ replace_part                               a move is carried out from another place
                        │    └─publish──> PUBLISHED ──close──> (no row)     and what was displaced is gone, too
                        │
                     turn_back                                              a conflict was found on the way
                        v
                       BACK ─────close──> (no row)                          everything as it was

Old versions in a staging directory are swept some time, so their row may go before them. Where they would be found, in
a box, the row is PUBLISHED until they are gone. A row of the other states may wait for a person; `reason` then says for
what. Rows of a run whose lock nobody holds are for `boxes.transactions.recovery`; rows of a living run belong to it
alone.
"""

from __future__ import annotations

import os
import sqlite3
from enum import Enum
from typing import Protocol

from jubako.boxes.transactions.database import Durability, ensure_schema, open_database, write_transaction
from jubako.boxes.transactions.planned import PlannedMoves
from jubako.errors import BugError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["HIDDEN_NAME", "Durability", "Entry", "EntryState", "Journal", "Owner", "open_database", "write_transaction"]

HIDDEN_NAME = ".jubako-stage"  # a staging directory outside the state root; another user adds the uid

_SYNCHRONOUS_FULL = 2
_MIGRATIONS = (
    (
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
    ),
    # Version 1 had all moves in `moves`, as text: a list of `move.decode_move`.
    (
        """CREATE TABLE parts (
            number INTEGER NOT NULL, part INTEGER NOT NULL, moves BLOB NOT NULL, PRIMARY KEY (number, part)
        ) WITHOUT ROWID""",
        """CREATE TRIGGER parts_go AFTER DELETE ON journal BEGIN
            DELETE FROM parts WHERE number = old.number;
        END""",
        "ALTER TABLE journal ADD COLUMN published INTEGER NOT NULL DEFAULT 0",
    ),
)
_NOTHING = b"[]"


class EntryState(Enum):
    """Which way a transaction is going."""

    FORWARD = "forward"
    BACK = "back"
    PUBLISHED = "published"  # what it displaced is to be removed


@record
class Entry:
    """One row of the journal. The signatures in `moves` have device 0."""

    run_id: str
    id: str
    label: str
    state: EntryState
    moves: PlannedMoves
    reason: str = ""


class Owner(Protocol):
    """The living run a journal writes for (`boxes.transactions.stage.StageArea`): its lock guards the rows."""

    @property
    def run_id(self) -> str: ...

    def find_sync_descriptor(self, device: int) -> int | None:
        """A descriptor on the file system `device`, opened before any task wrote there."""

    def make_aside(self, target: str) -> str:
        """A free name in a staging directory on the mount of `target`."""


class Journal:
    """The journal in one database. Reading works at once; writing needs an owner, whose rows they are."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        ensure_schema(connection, "journal", _MIGRATIONS)
        self.connection = connection
        self._owner: Owner | None = None

    @property
    def owner(self) -> Owner:
        if self._owner is None:
            raise BugError("this journal has no owner: open the run's StageArea with it before publishing")
        return self._owner

    @owner.setter
    def owner(self, owner: Owner | None) -> None:
        if owner is not None and self._owner is not None:
            raise BugError(f"the journal of run {self._owner.run_id} cannot serve run {owner.run_id} too")
        self._owner = owner

    def has_owner(self, owner: Owner) -> bool:
        return self._owner is owner

    def open(self, id: str, label: str, moves: PlannedMoves) -> None:
        """Adds the row of a transaction, within the caller's database transaction. An id twice is a BugError."""
        packed = (moves.packed(part) for part in range(moves.part_count))
        try:
            cursor = self.connection.execute(
                "INSERT INTO journal (run_id, id, label, state, moves) VALUES (?, ?, ?, 'forward', ?)",
                (self.owner.run_id, id, _plain(label), next(packed, _NOTHING)),
            )
        except sqlite3.IntegrityError as error:
            raise BugError(f"transaction {id} of run {self.owner.run_id} is open already") from error
        if moves.part_count > 1:
            rows = ((cursor.lastrowid, part, data) for part, data in enumerate(packed, 1))
            self.connection.executemany("INSERT INTO parts VALUES (?, ?, ?)", rows)

    def replace_part(self, run_id: str, id: str, part: int, moves: PlannedMoves) -> None:
        """Says, in a commit of its own, that a part is carried out as `moves` has it now, to the same targets."""
        with write_transaction(self.connection):
            row = (moves.packed(part), run_id, id)
            if part == 0:
                self.connection.execute("UPDATE journal SET moves = ? WHERE run_id = ? AND id = ?", row)
            else:
                numbered = "number = (SELECT number FROM journal WHERE run_id = ? AND id = ?)"
                self.connection.execute(f"UPDATE parts SET moves = ? WHERE {numbered} AND part = ?", (*row, part))

    def turn_back(self, run_id: str, id: str, reason: str) -> None:
        """Says, in a commit of its own, that a transaction is to be undone from now on."""
        with write_transaction(self.connection):
            self.connection.execute(
                "UPDATE journal SET state = 'back', reason = ? WHERE run_id = ? AND id = ?",
                (_plain(reason), run_id, id),
            )

    def wait(self, run_id: str, id: str, reason: str) -> None:
        """Says, in a commit of its own, what a person has to decide about a transaction."""
        with write_transaction(self.connection):
            self.connection.execute(
                "UPDATE journal SET reason = ? WHERE run_id = ? AND id = ?", (_plain(reason), run_id, id)
            )

    def publish(self, run_id: str, id: str) -> None:
        """Says that a transaction is published but for removing what it displaced, within the caller's transaction."""
        self.connection.execute("UPDATE journal SET published = 1 WHERE run_id = ? AND id = ?", (run_id, id))

    def close(self, run_id: str, id: str) -> None:
        """Deletes the row of a transaction, within the caller's database transaction."""
        self.connection.execute("DELETE FROM journal WHERE run_id = ? AND id = ?", (run_id, id))

    def entries(self, run_id: str) -> list[Entry]:
        """The open transactions of a run, in the order they were opened."""
        rows = self.connection.execute(
            """SELECT number, id, label, CASE WHEN published THEN 'published' ELSE state END, moves, reason
            FROM journal WHERE run_id = ? ORDER BY number""",
            (run_id,),
        )
        return [
            Entry(run_id, id, label, EntryState(state), PlannedMoves.read(self._parts(number, moves)), reason)
            for number, id, label, state, moves, reason in rows.fetchall()
        ]

    def _parts(self, number: int, first: str | bytes) -> Iterator[bytes]:
        yield first.encode() if isinstance(first, str) else first
        for (data,) in self.connection.execute("SELECT moves FROM parts WHERE number = ? ORDER BY part", (number,)):
            yield data

    def run_ids(self) -> set[str]:
        """The runs that have rows here."""
        rows = self.connection.execute("SELECT run_id FROM journal UNION SELECT run_id FROM places")
        return {run_id for (run_id,) in rows}

    def places(self, run_id: str) -> list[str]:
        """The directories that a run has made, or was about to make, outside the state root."""
        rows = self.connection.execute("SELECT path FROM places WHERE run_id = ? ORDER BY path", (run_id,))
        return [os.fsdecode(path) for (path,) in rows]

    def hidden_folders(self) -> list[str]:
        """The staging directories outside the state root of all runs, living or dead: boxes must not see them."""
        folders = (os.path.dirname(path) for run_id in self.run_ids() for path in self.places(run_id))
        return sorted({folder for folder in folders if os.path.basename(folder).startswith(HIDDEN_NAME)})

    def add_place(self, run_id: str, path: str) -> None:
        """Remembers, in a commit of its own, that `path` is about to be made."""
        with write_transaction(self.connection):
            self.connection.execute("INSERT OR IGNORE INTO places VALUES (?, ?)", (run_id, os.fsencode(path)))

    def remove_places(self, run_id: str) -> None:
        """Forgets the places of a run, which are gone, in a commit of its own."""
        with write_transaction(self.connection):
            self.connection.execute("DELETE FROM places WHERE run_id = ?", (run_id,))

    @property
    def is_durable(self) -> bool:
        """True if a commit is on the disk when it returns (`full`)."""
        return bool(self.connection.execute("PRAGMA synchronous").fetchone()[0] >= _SYNCHRONOUS_FULL)


def _plain(text: str) -> str:
    """`text` as SQLite takes it: bytes that are no UTF-8 are shown as \\xNN."""
    return os.fsencode(text).decode(errors="backslashreplace")
