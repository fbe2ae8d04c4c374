"""Publishes some of a box's changes to this machine: all of those chosen in one transaction, or none.

Each step of the plan (`plan_commit`) is checked against what other programs did meanwhile (`conflicts`), and its new
content brought to where it can be renamed into place from (`hand_over`); `Publisher` does the rest. Mode, owner and
attributes of directories that stay are set last: no rename can carry those.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import closing, contextmanager, suppress

from jubako.boxes.commands.box_files import BoxFiles
from jubako.boxes.commands.conflicts import Conflicts
from jubako.boxes.commands.give_files import NoteRemover
from jubako.boxes.commands.hand_over import HandedOver, hand_over, sort_by_folder
from jubako.boxes.commands.plan_commit import CommitPlan, plan_commit
from jubako.boxes.keeping.interrupted import forget_commit, note_commit
from jubako.boxes.keeping.kept_record import BoxRecord, forget_record, is_kept_box, save_record
from jubako.boxes.transactions.journal import Durability, Journal, open_database
from jubako.boxes.transactions.publish import Publisher, Transaction
from jubako.boxes.transactions.recovery import recover
from jubako.boxes.transactions.stage import StageArea
from jubako.boxes.views.apply import apply_operations
from jubako.boxes.views.operations import CopyAttributes
from jubako.errors import ConflictError
from jubako.kernel.files import RESOLVE_NO_SYMLINKS, openat2
from jubako.kernel.syscalls import AT_FDCWD
from jubako.layers.change import Change
from jubako.layers.remove import remove_tree
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from jubako.boxes.state import StateRoot

__all__ = ["Committed", "commit_changes", "forget_committed", "recover_dead"]

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


@record
class Committed:
    """What was published (`plan.published`), and in words what was left out of it."""

    plan: CommitPlan
    left_out: tuple[str, ...]


def recover_dead(state: StateRoot) -> None:
    """Finishes what killed processes were publishing. A box that one of them was committing must be read after that."""
    with closing(open_database(state.ledger_path, durability="full")) as connection:
        recover(Journal(connection), state)


def commit_changes(
    state: StateRoot,
    directory: str,
    record: BoxRecord,
    changes: Sequence[Change],
    paths: Sequence[str],
    *,
    without: Collection[str] = (),
    durability: Durability = "full",
) -> Committed:
    """Publishes what the box in `directory` changed at and below `paths`, but not the paths of `without`. Nothing
    chosen is no error. Afterwards the box may lack what was published; `forget_committed` takes out the rest of it.

    Raises ConflictError if something chosen was changed on this machine since the box was started, HostError where it
    cannot be written; nothing is published then, and the box is as it was.
    """
    plan = plan_commit(changes, paths, without=without)
    files = BoxFiles(directory, record)
    conflicts = Conflicts(files, directory, changes)
    conflicts.check_targets(plan)
    folders = sort_by_folder(plan)
    conflicts.check_folders([*folders, *(os.path.dirname(change.path) for change in plan.parents)], plan.parents)
    for change in plan.parents:
        conflicts.look(change)
    handed = HandedOver()
    if folders:
        with closing(open_database(state.ledger_path, durability=durability)) as connection:
            journal = Journal(connection)
            recover(journal, state)
            run_id = f"box-{record.id}-{secrets.token_hex(4)}"
            with StageArea(state, run_id, journal) as area:
                handed = hand_over(area, folders, files, conflicts, NoteRemover(directory))
                moves = tuple(handed.moves)
                transaction = Transaction("commit", f"box {record.id}", moves, planned=handed.planned, is_from_box=True)
                with _noted(directory, record, journal, run_id):
                    (outcome,) = Publisher(journal, durability).publish([transaction])
                    if isinstance(outcome, Exception):
                        raise outcome
    for change in sorted([*plan.metadata, *plan.parents], reverse=True):
        _set_metadata(change.path, files.find(change.path))
    return Committed(replace(plan, copied=tuple(handed.copied)), (*plan.left_out, *handed.refused))


def forget_committed(directory: str, record: BoxRecord, plan: CommitPlan) -> None:
    """Takes what was committed by `plan` (`Committed.plan`) out of a kept box, so that it holds the rest. Hold the box
    exclusively.

    If this is killed half-way, the box still has some of it, which then is no change any more.
    """
    files = BoxFiles(directory, record)
    parents = {change.path: files.find(change.path) for change in plan.parents}
    sources = [files.find(change.path) for change in plan.copied]  # where the outputs still count
    if record.outputs:
        published = {change.path for change in plan.published}
        outputs = tuple(output for output in record.outputs if output.path not in published)
        if outputs != record.outputs:
            save_record(directory, replace(record, outputs=outputs))
    for source in sources:
        _take_out(source)
    for change in plan.deletions:
        with suppress(FileNotFoundError):
            _take_out(files.find(change.path))  # the whiteout
    for source in parents.values():
        for name in _OPAQUE:  # from now on the machine's directory of that name shows through
            with suppress(OSError):
                os.removexattr(source, name)


def _take_out(source: str) -> None:
    """Removes something from the box, also from a directory that the box has made read-only for its owner."""
    try:
        remove_tree(source)
    except PermissionError:
        folder = os.path.dirname(source)
        mode = stat.S_IMODE(os.lstat(folder).st_mode)
        os.chmod(folder, mode | 0o300)
        try:
            remove_tree(source)
        finally:
            os.chmod(folder, mode)


@contextmanager
def _noted(directory: str, record: BoxRecord, journal: Journal, run_id: str) -> Iterator[None]:
    """Has the box be a kept one in the block, with a note that it is being committed: nobody sweeps what is published
    from there, or has the box before that is over. Both stay while the journal needs it: after a kill, or where a
    person has to decide."""
    is_kept = is_kept_box(directory)
    if not is_kept:
        save_record(directory, record)
    note_commit(directory, run_id)
    try:
        yield
    finally:
        if not journal.entries(run_id):
            forget_commit(directory)
            if not is_kept:
                forget_record(directory)


def _set_metadata(path: str, source: str) -> None:
    """Gives a directory the metadata of the box's. By descriptor, and through no link: whoever owns a directory on the
    way may have put one there meanwhile, and we may be root."""
    try:
        fd = openat2(AT_FDCWD, path, os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
    except OSError as error:
        raise ConflictError(
            f"all else is committed, but {path} did not get its mode and attributes: {error.strerror}",
            hint="Somebody moved or replaced it meanwhile.",
        ) from error
    try:
        apply_operations([CopyAttributes(source, f"/proc/self/fd/{fd}")])
    finally:
        os.close(fd)
