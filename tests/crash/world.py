"""A small world to publish in: a state root, a folder of outputs in its old state, and one transaction on it.

The transaction makes a file two missing folders down, replaces a file and a directory, deletes a file, and ends with a
completion mark. `seen()` is all a user could see; it is OLD or NEW, or the world is broken.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from jubako.boxes.spec import Output
from jubako.boxes.state import StateRoot, open_state_root
from jubako.boxes.transactions.journal import Durability, Journal, open_database
from jubako.boxes.transactions.publish import Move, Publisher, Transaction, take_signature
from jubako.boxes.transactions.recovery import RecoveryReport, recover
from jubako.boxes.transactions.stage import StageArea

Seen = dict[str, str]

OLD: Seen = {"replaced": "old file", "deleted": "old deleted", "tree/a": "old a", "tree/gone": "old gone", "kept": "k"}
NEW: Seen = {
    "replaced": "new file, longer",
    "sub/folder/new": "new",
    "tree/a": "new a",
    "tree/added": "new added",
    "kept": "k",
    "mark": "done",
}


@dataclass(frozen=True, slots=True)
class World:
    """Paths, and what can be done there. Everything is done by path, so that any process can do it."""

    state_path: Path
    outputs: Path
    durability: Durability = "relaxed"
    file_outputs_only: bool = False
    tried_first: Path | None = None  # a folder on the mount of `outputs` that the run's trial of that mount is made in
    from_box: bool = False  # the new contents are in a box, where nothing that they displaced may be left over

    @property
    def box(self) -> Path:
        return self.state_path / "boxes/made"

    def make(self) -> None:
        """The old state; whatever was there before is gone."""
        for path in (self.state_path, self.outputs):
            shutil.rmtree(path, ignore_errors=True)
        self.outputs.mkdir(parents=True)
        for name, content in self.expected(OLD).items():
            (self.outputs / name).parent.mkdir(exist_ok=True)
            (self.outputs / name).write_text(content)
        _, journal = self.open()
        journal.connection.close()

    def open(self) -> tuple[StateRoot, Journal]:
        state = open_state_root(str(self.state_path))
        return state, Journal(open_database(state.ledger_path, durability=self.durability))

    def expected(self, seen: Seen) -> Seen:
        """OLD or NEW as far as this world goes."""
        return {name: text for name, text in seen.items() if not (self.file_outputs_only and name.startswith("tree"))}

    def publish(self, acknowledge: int | None = None) -> None:
        """The whole life of a run with one task. A byte is written to `acknowledge` when it has been published."""
        state, journal = self.open()
        with StageArea(state, "run", journal) as area:
            self.make_trial(area)
            transaction = self.stage(area)
            (outcome,) = Publisher(journal, self.durability).publish([transaction])
            if acknowledge is not None:
                os.write(acknowledge, b"!")
            if isinstance(outcome, Exception):
                raise outcome
            area.discard("attempt")
        journal.connection.close()

    def make_trial(self, area: StageArea) -> None:
        """Has the mount of the outputs tried, if that is to happen in another folder than theirs."""
        if self.tried_first is not None:
            area.stage("first", [Output(str(self.tried_first / "never made"))])

    def stage(self, area: StageArea) -> Transaction:
        """Stages the new contents."""
        names = ["sub/folder/new", "replaced", "mark"]
        outputs = [Output(str(self.outputs / name)) for name in names]
        if not self.file_outputs_only:
            outputs.insert(0, Output(str(self.outputs / "tree"), "directory"))
        self.box.mkdir(parents=True, exist_ok=True)
        moves = []
        for number, output in enumerate(area.stage("attempt", outputs)):
            name = str(Path(output.path).relative_to(self.outputs))
            staged = self.box / str(number) if self.from_box else Path(output.staged)
            if output.kind == "directory":
                staged.mkdir(exist_ok=True)
                for inner in ("a", "added"):
                    (staged / inner).write_text(NEW[f"tree/{inner}"])
            else:
                staged.write_text(NEW[name])
            moves.append(Move(str(staged), output.path, take_signature(output.path)))
        deleted = str(self.outputs / "deleted")
        moves.insert(1, Move(None, deleted, take_signature(deleted)))
        return Transaction("attempt", "Task(x=1)", tuple(moves), is_from_box=self.from_box)

    def recover(self) -> RecoveryReport:
        state, journal = self.open()
        report = recover(journal, state)
        journal.connection.close()
        return report

    def seen(self) -> Seen:
        """Every file below the outputs with its content; empty directories show as "(empty)". Staged ones are left out:
        those are for `leftovers`."""
        found = {}
        for folder, folders, files in os.walk(self.outputs):
            folders[:] = [name for name in folders if not name.startswith(".jubako")]
            for name in files:
                path = Path(folder, name)
                text = f"link to {os.readlink(path)}" if path.is_symlink() else path.read_text()
                found[str(path.relative_to(self.outputs))] = text
            if not files and not folders:
                found[str(Path(folder).relative_to(self.outputs))] = "(empty)"
        return found

    def leftovers(self) -> list[str]:
        """What should not be there when no run is living: staged files, hidden folders, open rows."""
        state, journal = self.open()
        found = [str(path) for path in Path(state.stage_path).iterdir()]
        found += [str(path) for path in self.outputs.rglob(".jubako*")]
        found += [str(path) for path in self.box.rglob("*") if path.is_file() and is_displaced(path.read_text())]
        found += sorted(journal.run_ids())
        journal.connection.close()
        return found


def is_displaced(text: str) -> bool:
    """True of what was in place before, also of what an attacker has put there."""
    return text in OLD.values() or text.startswith("attack")
