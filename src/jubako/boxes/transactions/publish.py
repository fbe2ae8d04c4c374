"""Publishing: transactions put in place whole, many in one batch, with two barriers and one journal commit each way.

    plan      what is staged, what is in place, inputs unchanged           refused here: nothing has happened
    barrier   full: staged data on the disk (syncfs)
    valid     one database commit: guards asked, journal rows added        refused here: nothing has happened
    apply     the renames, each verified; a conflict takes its transaction back
    barrier   full: renames on the disk (syncfs)
    closed    one database commit: outcomes recorded, journal rows gone    from here on it is published
    clean     displaced old versions removed; if they are in a box, the row is "published" until they are gone

A kill before "valid" leaves only staged files, which a sweep removes; after it, recovery carries on from the journal.
Within a transaction moves are carried out in order, so the last one is the completion mark.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

from jubako.boxes.transactions.beside import carry_out, undo_moves
from jubako.boxes.transactions.displaced import remove_displaced
from jubako.boxes.transactions.folders import Folders, check_anchor, plan_folder
from jubako.boxes.transactions.journal import Durability, Journal, write_transaction
from jubako.boxes.transactions.move import Move, PlannedMove
from jubako.boxes.transactions.planned import PlannedMoves
from jubako.boxes.transactions.rename import changed_error
from jubako.boxes.transactions.signature import Signature, take_signature
from jubako.errors import BugError, ConflictError, HostError
from jubako.kernel.files import syncfs
from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Guard", "Move", "Outcome", "Published", "Publisher", "Record", "Signature", "Transaction", "take_signature"]


@record
class Transaction:
    """What one attempt publishes, all or nothing. The last move is the completion mark.

    `id` is unique in the run. `inputs` are paths with the signatures they had when the attempt began; a change of one
    is a conflict. `planned` are moves whose planner has looked at everything; they are carried out first. No path may
    be the target of two moves. `is_from_box`: the asides are in a box, where nothing that was displaced may be found.
    """

    id: str
    label: str  # for people: "DailySummary(date=2010-01-01)"
    moves: tuple[Move, ...]
    inputs: tuple[tuple[str, Signature | None], ...] = ()
    planned: PlannedMoves | None = None
    is_from_box: bool = False


@record
class Published:
    """The transaction is in place, and its journal entry closed."""

    id: str


# ConflictError  somebody changed a target, an input, a folder or the lease; nothing of the transaction is in place
# HostError      the disk or the kernel refused; nothing of the transaction is in place
# Where taking it back would have lost somebody's data, the error says what is kept where, and the journal row waits.
Outcome = Published | ConflictError | HostError
Guard = Callable[[sqlite3.Connection, Transaction], None]
Record = Callable[[sqlite3.Connection, Transaction, Outcome], None]


@record(frozen=False)
class _Work:
    transaction: Transaction
    planned: PlannedMoves = field(default_factory=PlannedMoves)
    refusal: ConflictError | HostError | None = None
    journaled: bool = False
    waits: bool = False  # its row stays in the journal: a person, or the next recovery

    @property
    def outcome(self) -> Outcome:
        return self.refusal or Published(self.transaction.id)


@record(frozen=False)
class Publisher:
    """Publishes for the run that owns `journal` (see `StageArea`). Not for several threads."""

    journal: Journal
    durability: Durability
    _folders: Folders = field(default_factory=Folders)

    def publish(
        self, batch: Sequence[Transaction], *, guard: Guard | None = None, record: Record | None = None
    ) -> list[Outcome]:
        """Publishes each transaction of the batch or nothing of it; outcomes in the same order.

        `guard` runs in the database transaction that makes the journal valid and raises ConflictError to refuse its
        transaction alone. `record` runs in the one that closes the journal, for every transaction of the batch.
        An exception other than these outcomes leaves the journal open: the outputs are in place or recovery puts them.
        """
        work = [_Work(transaction) for transaction in batch]
        with self._folders:
            for each in work:
                self._plan(each)
            if self.durability == "full":
                self._sync_staged(work)
            self._make_valid(work, guard)
            for each in work:
                if each.refusal is None:
                    self._apply(each)
            if self.durability == "full":
                self._sync_renamed(work)
            self._close(work, record)
            for each in work:
                if each.refusal is None:
                    self._clean(each)
        return [each.outcome for each in work]

    def _plan(self, work: _Work) -> None:
        label = work.transaction.label
        try:
            for path, expected in work.transaction.inputs:
                found = take_signature(path)
                if found != expected:
                    raise changed_error(path, label, expected, found, role="an input of it")
            work.planned = work.transaction.planned or work.planned
            for move in work.transaction.moves:
                if (planned := self._plan_move(move, label)) is not None:
                    work.planned.append(planned)
        except (ConflictError, HostError) as error:
            work.refusal = error
        except OSError as error:
            work.refusal = _host_error(label, error)

    def _plan_move(self, move: Move, label: str) -> PlannedMove | None:
        """None for the deletion of what does not exist."""
        found = take_signature(move.target)
        if found != move.expected:
            raise changed_error(move.target, label, move.expected, found)
        folder_inode, made = plan_folder(move.target)
        if move.anchor is not None:
            check_anchor(move.anchor, move.target, folder_inode)
        if move.staged is None:
            if found is None:
                return None
            aside = self.journal.owner.make_aside(move.target)
            return PlannedMove(move.target, aside, None, found, folder_inode, made)
        content = move.content or take_signature(move.staged)
        if content is None:
            raise BugError(f"{move.staged}, staged for {move.target}, does not exist")
        if content.type == "directory" and any("overlay." in name for name in os.listxattr(move.staged)):
            raise BugError(f"{move.staged} is the upper directory of an overlay, which holds only what was changed")
        return PlannedMove(move.target, move.staged, content, found, folder_inode, made)

    def _sync_staged(self, work: Sequence[_Work]) -> None:
        """Staged data must be on the disk before the journal says it is to be published: else a power cut after the
        renames leaves empty files under the final names."""
        for device, path in _devices(work).items():
            try:
                self._sync(device, path)
            except OSError as error:
                for each in work:
                    if each.refusal is None and device in _devices([each]):
                        each.refusal = _host_error(each.transaction.label, error)

    def _make_valid(self, work: Sequence[_Work], guard: Guard | None) -> None:
        ready = [each for each in work if each.refusal is None and (each.planned or guard)]
        if not ready:
            return
        with write_transaction(self.journal.connection) as connection:
            for each in ready:
                if guard is not None:
                    connection.execute("SAVEPOINT guard")
                    try:
                        guard(connection, each.transaction)
                    except ConflictError as error:
                        connection.execute("ROLLBACK TO guard")
                        each.refusal = error
                    connection.execute("RELEASE guard")
                if each.refusal is None and each.planned:
                    self.journal.open(each.transaction.id, each.transaction.label, each.planned)
                    each.journaled = True

    def _apply(self, work: _Work) -> None:
        begun = 0
        label = work.transaction.label
        named = (self.journal.owner.run_id, work.transaction.id, label)
        used: dict[str, PlannedMove] = {}  # a move for each folder
        try:
            for moves, move in carry_out(self.journal, named, work.planned, self._folders, same_boot=True):
                begun = moves
                used[move.folder] = move
            for move in used.values():
                self._folders.check(move)
        except (ConflictError, HostError) as error:
            work.refusal = error
        except OSError as error:
            work.refusal = _host_error(label, error)
        if work.refusal is not None:
            self._take_back(work, work.refusal, begun)

    def _take_back(self, work: _Work, refusal: ConflictError | HostError, begun: int) -> None:
        # The commit comes first: after a kill in the middle, recovery must go on back and not forward again.
        run_id, id = self.journal.owner.run_id, work.transaction.id
        self.journal.turn_back(run_id, id, refusal.message)
        problems = undo_moves(self.journal, (run_id, id), work.planned, begun, self._folders, same_boot=True)
        if problems:
            work.waits = True
            self.journal.wait(run_id, id, "; ".join(problems))
            message = "; ".join((refusal.message, *problems))
            if isinstance(refusal, ConflictError):
                work.refusal = ConflictError(message, hint=refusal.hint, is_repeatable=False)
            else:
                work.refusal = HostError(message, hint=refusal.hint)

    def _sync_renamed(self, work: Sequence[_Work]) -> None:
        """Renames must be on the disk before the journal forgets them: else a power cut leaves some of them undone with
        nobody to finish them."""
        for device, path in _devices(each for each in work if each.journaled).items():
            try:
                self._sync(device, path)
            except OSError as error:
                raise HostError(
                    f"what was published could not be written to the disk: {error.strerror}",
                    hint="the next start of jubako finishes it; look at the kernel's log for the disk's errors",
                ) from error

    def _sync(self, device: int, path: str) -> None:
        fd = self.journal.owner.find_sync_descriptor(device)
        if fd is not None:
            syncfs(fd)
            return
        fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(fd)
        finally:
            os.close(fd)

    def _close(self, work: Sequence[_Work], record: Record | None) -> None:
        if record is None and not any(each.journaled for each in work):
            return
        run_id = self.journal.owner.run_id
        with write_transaction(self.journal.connection) as connection:
            for each in work:
                if record is not None:
                    record(connection, each.transaction, each.outcome)
                if each.journaled and not each.waits:
                    is_left = each.transaction.is_from_box and each.refusal is None
                    (self.journal.publish if is_left else self.journal.close)(run_id, each.transaction.id)

    def _clean(self, work: _Work) -> None:
        is_clean = not remove_displaced(work.planned)
        if work.transaction.is_from_box and work.journaled and is_clean:  # otherwise the next recovery tries again
            if self.durability == "full":
                self._sync_renamed([work])
            with write_transaction(self.journal.connection):
                self.journal.close(self.journal.owner.run_id, work.transaction.id)


def _devices(work: Iterable[_Work]) -> dict[int, str]:
    """The file systems that transactions not refused so far touch, each with one staged path on it."""
    devices: dict[int, str] = {}
    for each in work:
        devices |= each.planned.devices
    return devices


def _host_error(label: str, error: OSError) -> HostError:
    path = os.fsdecode(error.filename or "")
    where = f"{path}: " if path else ""
    return HostError(f"{label} could not be published: {where}{error.strerror}", hint="nothing of it was published")
