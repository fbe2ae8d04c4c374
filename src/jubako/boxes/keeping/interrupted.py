"""Commits that were killed: finished, or taken back, before anybody else has the box.

    committing    the id of the run that publishes from the box, there from its first rename until its journal is closed

In between, the box may hold old versions of this machine's files in the place of its own (`boxes.commands.hand_over`).
Whoever takes the box's lock finds the note, if it is still there, and recovers first.
"""

from __future__ import annotations

import os
from contextlib import closing

from jubako.boxes.keeping.kept_record import COMMITTING_NAME
from jubako.boxes.state import StateRoot
from jubako.boxes.transactions.journal import Journal, open_database
from jubako.boxes.transactions.recovery import recover
from jubako.errors import ConflictError

__all__ = ["finish_commit", "forget_commit", "note_commit"]


def note_commit(directory: str, run_id: str) -> None:
    """Says in the box `directory`, which is held exclusively, that the run `run_id` is about to publish from it."""
    with open(os.path.join(directory, COMMITTING_NAME), "w", encoding="utf-8") as file:
        file.write(run_id)
        file.flush()
        os.fsync(file.fileno())


def forget_commit(directory: str) -> None:
    """Takes the note off. Nothing of that run may be in the journal any more."""
    try:
        os.unlink(os.path.join(directory, COMMITTING_NAME))
    except FileNotFoundError:  # somebody else who had the box has seen the same
        return


def finish_commit(directory: str, lock: int) -> None:
    """Has what a killed process was publishing from the box `directory` be entirely there or entirely back.

    Whoever calls it has the box by `lock`, which is closed if this raises: ConflictError where that is for a person to
    decide.
    """
    try:
        _finish(directory)
    except BaseException:
        os.close(lock)
        raise


def _finish(directory: str) -> None:
    try:
        with open(os.path.join(directory, COMMITTING_NAME), encoding="utf-8") as file:
            run_id = file.read()
    except FileNotFoundError:
        return
    state = StateRoot(os.path.dirname(os.path.dirname(directory)))
    with closing(open_database(state.ledger_path, durability="full")) as connection:
        journal = Journal(connection)
        report = recover(journal, state)
        entries = journal.entries(run_id)
    if entries:
        reasons = [entry.reason for entry in entries if entry.reason] or report.not_swept or ["it goes on elsewhere"]
        raise ConflictError(
            f"box {os.path.basename(directory)} was being committed when that was cut short; {'; '.join(reasons)}"
        )
    forget_commit(directory)
