"""Recovery: what runs that died have left half published becomes entirely new or entirely old; the rest is swept.

For each open journal row of a run whose lock nobody holds, all its moves are looked at (`move` has the table):

    FORWARD, every move BEFORE or DONE     the ones BEFORE are carried out: entirely new
    FORWARD, some WRONG or LOST            turned back: entirely old
    FORWARD, some CHANGED or OVERWRITTEN   nothing is touched, everything staged is kept, a person has to decide
    BACK                                   taken back: entirely old
    PUBLISHED                              entirely new already; old versions that were left over are removed
    a folder is missing or another one     nothing is touched (is its file system mounted?)

What a person does with the files named is what the next recovery finds, so no command is needed to say it. Recovery is
idempotent, may itself be killed anywhere, and runs in one process of a state root at a time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from enum import Enum

from jubako.boxes.run_lock import hold_sweeping, lock_dead_run
from jubako.boxes.transactions.beside import carry_out, undo_moves
from jubako.boxes.transactions.displaced import remove_displaced
from jubako.boxes.transactions.folders import Folders
from jubako.boxes.transactions.journal import Entry, EntryState, Journal, write_transaction
from jubako.boxes.transactions.move import PlannedMove, Progress, find_progress
from jubako.boxes.transactions.rename import look
from jubako.boxes.transactions.stage import find_runs, sweep_run
from jubako.errors import ConflictError, HostError
from jubako.kernel.files import syncfs
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.boxes.state import StateRoot
    from jubako.boxes.transactions.planned import PlannedMoves
    from jubako.boxes.transactions.signature import Signature

__all__ = ["Recovered", "RecoveryRecord", "RecoveryReport", "Way", "plan_recovery", "recover"]


class Way(Enum):
    """What becomes of one transaction."""

    FORWARD = "forward"
    BACK = "back"
    WAIT = "wait"


@record
class Recovered:
    """One transaction of a dead run. `words` say why it was turned back, or what a person has to decide."""

    run_id: str
    id: str
    label: str
    targets: tuple[str, ...]
    words: str = ""


@record
class RecoveryReport:
    """What a recovery did. `swept` are the ids of dead runs of which nothing is left any more; `not_swept` says, in
    sentences, what could not be removed (the next recovery tries again)."""

    rolled_forward: tuple[Recovered, ...] = ()
    rolled_back: tuple[Recovered, ...] = ()
    needs_person: tuple[Recovered, ...] = ()
    swept: tuple[str, ...] = ()
    not_swept: tuple[str, ...] = ()


# Called in the database transaction that closes a row; the flag says whether the transaction was published.
RecoveryRecord = Callable[[sqlite3.Connection, Recovered, bool], None]


def recover(journal: Journal, state: StateRoot, *, record: RecoveryRecord | None = None) -> RecoveryReport:
    """Finishes or undoes what dead runs were publishing, then removes what they have staged. Living runs are left be.

    Waits while another process recovers. Raises HostError where the database or the state root cannot be written.
    """
    done: dict[Way, list[Recovered]] = {way: [] for way in Way}
    swept, not_swept = [], []
    with hold_sweeping(state):
        for run_id in find_runs(state, journal):
            with lock_dead_run(state, run_id) as dead:
                if not dead:
                    continue
                for entry in journal.entries(run_id):
                    if entry.state is not EntryState.PUBLISHED:
                        way, recovered = _recover_entry(journal, entry, record)
                        done[way].append(recovered)
                for entry in journal.entries(run_id):
                    if entry.state is EntryState.PUBLISHED:
                        not_swept += _clean(journal, entry)
            try:
                if sweep_run(state, journal, run_id):
                    swept.append(run_id)
            except HostError as error:
                not_swept.append(error.message)
    return RecoveryReport(
        rolled_forward=tuple(done[Way.FORWARD]),
        rolled_back=tuple(done[Way.BACK]),
        needs_person=tuple(done[Way.WAIT]),
        swept=tuple(swept),
        not_swept=tuple(not_swept),
    )


def plan_recovery(state: EntryState, progress: Sequence[Progress]) -> Way:
    """Which way a transaction goes whose moves have got so far. Pure."""
    found = set(progress)
    if state is EntryState.BACK or found & {Progress.WRONG, Progress.LOST}:
        return Way.BACK
    if found & {Progress.CHANGED, Progress.OVERWRITTEN}:
        return Way.WAIT
    return Way.FORWARD


def _recover_entry(journal: Journal, entry: Entry, record: RecoveryRecord | None) -> tuple[Way, Recovered]:
    moves = entry.moves
    with Folders() as folders:
        try:
            progress = [find_progress(move, *_look(move, folders)) for move in moves]
            way = plan_recovery(entry.state, progress)
            words = entry.reason
            if way is Way.FORWARD:
                words = _go_forward(journal, entry, moves, progress, folders)
                if words:
                    way = Way.BACK
            elif way is Way.BACK and entry.state is EntryState.FORWARD:
                words = _explain(moves, progress, (Progress.WRONG, Progress.LOST))
            elif way is Way.WAIT:
                words = _explain(moves, progress, (Progress.CHANGED, Progress.OVERWRITTEN))
            if way is Way.BACK:
                if entry.state is EntryState.FORWARD:
                    journal.turn_back(entry.run_id, entry.id, words)
                problems = undo_moves(journal, (entry.run_id, entry.id), moves, len(moves), folders, same_boot=False)
                if problems:
                    way, words = Way.WAIT, "; ".join(problems)
            if way is not Way.WAIT:
                _sync(moves)
        except ConflictError as error:
            way, words = Way.WAIT, f"{error.message}; is its file system mounted?"
        except OSError as error:
            way, words = Way.WAIT, f"{error.filename or entry.label}: {error.strerror}; the next start tries again"
    recovered = Recovered(entry.run_id, entry.id, entry.label, tuple(move.target for move in moves), words)
    if way is Way.WAIT:
        if words != entry.reason:
            journal.wait(entry.run_id, entry.id, words)
        return way, recovered
    with write_transaction(journal.connection) as connection:
        if record is not None:
            record(connection, recovered, way is Way.FORWARD)
        (journal.publish if way is Way.FORWARD else journal.close)(entry.run_id, entry.id)
    return way, recovered


def _clean(journal: Journal, entry: Entry) -> list[str]:
    """Removes what a published transaction displaced, then its row; in words, what cannot be removed."""
    problems = remove_displaced(entry.moves, is_seen=False)
    try:
        _sync(entry.moves)
    except OSError as error:
        problems.append(f"{error.filename}: {error.strerror}")
    if problems:
        return [f"an old version that {entry.label} has replaced cannot be removed: {problems[0]}"]
    with write_transaction(journal.connection):
        journal.close(entry.run_id, entry.id)
    return []


def _look(move: PlannedMove, folders: Folders) -> tuple[Signature | None, Signature | None]:
    return look(move, folders.find(move), same_boot=False)


def _go_forward(
    journal: Journal, entry: Entry, moves: PlannedMoves, progress: Sequence[Progress], folders: Folders
) -> str:
    """Carries out what is not done yet; why not, in words, if somebody is changing a target at this moment, or nothing
    can be renamed to it."""
    named = (entry.run_id, entry.id, entry.label)
    done = [so_far is not Progress.BEFORE for so_far in progress]
    used: dict[str, PlannedMove] = {}  # a move for each folder
    try:
        for _, move in carry_out(journal, named, moves, folders, same_boot=False, done=done):
            used[move.folder] = move
        for move in used.values():
            folders.check(move)
    except (ConflictError, HostError) as error:
        return error.message
    return ""


def _explain(moves: PlannedMoves, progress: Sequence[Progress], which: Sequence[Progress]) -> str:
    return "; ".join(
        _explain_move(move, so_far) for move, so_far in zip(moves, progress, strict=True) if so_far in which
    )


def _explain_move(move: PlannedMove, progress: Progress) -> str:
    target, aside = move.target, move.aside
    match progress:
        case Progress.WRONG:
            return f"{target} was changed by another program at the moment of publishing"
        case Progress.LOST:
            return f"what was staged for {target} is gone from {aside}"
        case Progress.CHANGED:
            return (
                f"{target} was changed by another program before it could be published: to publish the new version, "
                f"move {aside} over it; to give the new version up, remove {aside}; then start jubako again"
            )
    return (
        f"{target} was published and then changed by another program: to keep what is there now, remove the old "
        f"version at {aside}; then start jubako again"
    )


def _sync(moves: PlannedMoves) -> None:
    """Everything done so far must be on the disk before the row goes; recovery is rare, so always."""
    synced = set()
    for group in moves.groups():
        fd = _open_either(group.staging, group.move(0).anchor)
        try:
            device = os.fstat(fd).st_dev
            if device not in synced:
                syncfs(fd)
                synced.add(device)
        finally:
            os.close(fd)


def _open_either(staging: str, folder: str) -> int:
    """A descriptor on the file system that both directories lie on; a person may have removed the first."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(staging, flags)
    except FileNotFoundError:
        return os.open(folder, flags)
