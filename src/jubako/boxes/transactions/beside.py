"""Carrying out a move, also where the kernel will not rename from the staging place although it did in a trial.

One trial for each mount cannot foretell everything: folders of one file system may belong to different projects
(project quotas of ext4, XFS and f2fs, inherited by what is made in them), and a rename from one project into another
is refused with EXDEV, as between two disks. What is staged is then copied to `.jubako-stage/RUN` beside the target,
where it belongs to the target's project, compared with what it is a copy of, and written to the disk (`full`). The
journal is told of the other place, in a commit, before the rename from there; so after a crash one of them has it all:

    journal row names    the staging place          the place beside
    before the commit    all that was staged        part of a copy, removed with the run
    after it             what is left over          the copy, or after the rename the displaced version

What was there before is moved to the same place, so it needs no copy. A file of a third project can be moved out of the
folder by some file systems and never back: should its move be undone, a copy of it takes its place. Only a directory
that cannot be moved anywhere is refused; docs/decisions says why. Where renames work, nothing here costs a system call.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat

from jubako.boxes.transactions.journal import Journal
from jubako.boxes.transactions.move import PlannedMove
from jubako.boxes.transactions.place import is_movable, make_hidden_folder
from jubako.boxes.transactions.planned import group_of
from jubako.boxes.transactions.rename import Stuck, apply_group, apply_move, undo_move
from jubako.boxes.transactions.signature import Signature, take_signature, without_device
from jubako.boxes.views.facts import is_below
from jubako.errors import ConflictError, HostError
from jubako.kernel.files import syncfs
from jubako.layers.content import digest_content
from jubako.layers.copy import copy_file, copy_tree
from jubako.layers.remove import remove_tree
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.boxes.transactions.folders import Folders
    from jubako.boxes.transactions.planned import MoveGroup, PlannedMoves

__all__ = ["carry_out", "undo_moves", "unmovable_error"]


def carry_out(
    journal: Journal,
    transaction: tuple[str, str, str],
    moves: PlannedMoves,
    folders: Folders,
    *,
    same_boot: bool,
    done: Sequence[bool] = (),
) -> Iterator[tuple[int, PlannedMove]]:
    """Carries out the moves of `transaction` (its run id, id and label), but those that are `done`.

    Gives a move of each group before the first rename of that, when its folder is open, with the number of moves begun
    by then: those of this group, and all before. In place of a move another one to the same target may be carried out,
    and be in `moves` and the journal then. Raises what `apply_move` does, OSError with the target in it, and HostError
    where nothing can be renamed to the target.
    """
    run_id, id, label = transaction
    first = 0  # of the group, among all moves
    for part in range(moves.part_count):
        groups, at = moves.part(part), 0
        while at < len(groups):
            group = groups[at]
            done_here = done[first : first + len(group)]
            if done_here and all(done_here):
                first, at = first + len(group), at + 1
                continue
            move = group.move(0)
            folder_fd = _open_folder(move, folders)
            yield first + len(group), move
            if len(group) == 1:
                carried = _carry_one(move, folder_fd, label, same_boot=same_boot)
            else:
                carried = _carry_group(group, folder_fd, label, done_here, same_boot=same_boot)
            first, at = first + carried, at + 1
            if carried < len(group):
                other = _stage_beside(journal, run_id, id, group.move(carried), same_boot=same_boot)
                split = (group.part(0, carried), group_of(other), group.part(carried + 1, len(group)))
                groups = [*groups[: at - 1], *(each for each in split if len(each)), *groups[at:]]
                moves.replace(part, groups)
                journal.replace_part(run_id, id, part, moves)
                _apply(other, folder_fd, label, same_boot=same_boot)
                first, at = first + 1, at + (carried > 0)


def undo_moves(
    journal: Journal,
    transaction: tuple[str, str],
    moves: PlannedMoves,
    begun: int,
    folders: Folders,
    *,
    same_boot: bool,
) -> list[str]:
    """Takes the first `begun` of the moves back, last first, and removes directories made for any of them; what remains
    to be decided, in words.

    `transaction` is its run id and its id. Repeatable. Everything that can be taken back is, also when something else
    cannot.
    """
    problems = []
    first = len(moves)
    for group in moves.backwards():
        first -= len(group)
        for move in group.backwards() if first < begun else ():
            try:
                _take_back(journal, *transaction, move, folders.find(move), same_boot=same_boot)
            except (Stuck, ConflictError, HostError) as problem:
                problems.append(str(problem))
            except OSError as error:
                problems.append(
                    f"{move.target} could not be taken back ({error.strerror}); what belongs there may be at "
                    f"{move.aside}; the next start tries again"
                )
    for group in moves.backwards():
        with contextlib.suppress(ConflictError):  # the folder is another one by now: nothing of ours is in it
            folders.unmake(group.move(0))
    folders.forget()
    return problems


def unmovable_error(path: str) -> HostError:
    """The error for a directory that no rename can take out of its place."""
    return HostError(
        f"the directory {path} cannot be replaced: the kernel will not move it, as it comes from a lower layer of an "
        "overlay, or belongs to another project than its folder",
        hint=f"make it anew once (cp -a {path} {path}.new; rm -r {path}; mv {path}.new {path}); in a container, keep "
        "outputs on a volume",
    )


def _open_folder(move: PlannedMove, folders: Folders) -> int:
    try:
        return folders.open(move)
    except OSError as error:
        raise _at_target(error, move) from error


def _carry_group(group: MoveGroup, folder_fd: int, label: str, done: Sequence[bool], *, same_boot: bool) -> int:
    """Carries out the moves of a group up to the first that cannot be renamed from where it is staged; how many."""
    number, refused = (0, 0) if done else apply_group(group, folder_fd, label, same_boot=same_boot)
    while number < len(group) and refused != errno.EXDEV:
        is_done = bool(done) and done[number]
        if not is_done and not _carry_one(group.move(number), folder_fd, label, same_boot=same_boot):
            break
        number += 1
    return number


def _carry_one(move: PlannedMove, folder_fd: int, label: str, *, same_boot: bool) -> int:
    """Carries out a move; 0 if it cannot be renamed from where it is staged, else 1."""
    try:
        _apply(move, folder_fd, label, same_boot=same_boot)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return 0
    return 1


def _apply(move: PlannedMove, folder_fd: int, label: str, *, same_boot: bool) -> None:
    try:
        apply_move(move, folder_fd, label, same_boot=same_boot)
    except OSError as error:
        raise _at_target(error, move) from error


def _at_target(error: OSError, move: PlannedMove) -> OSError:
    return OSError(error.errno, error.strerror, move.target)


def _take_back(
    journal: Journal, run_id: str, id: str, move: PlannedMove, folder_fd: int | None, *, same_boot: bool
) -> None:
    """`undo_move`, also where the displaced version may leave a folder and not come back: a copy of it comes back.

    Repeatable without the journal knowing of the copy: a target that is neither new nor missing, with the displaced
    version kept, is nothing to undo.
    """
    try:
        undo_move(move, folder_fd, same_boot=same_boot)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        place = make_hidden_folder(move.anchor, run_id, journal, move.target)
        copy = os.path.join(place, f"{_name(id, move)}-back")
        expected = _copy(journal, move.aside, copy, move.target)
        if not same_boot:
            expected = without_device(expected)
        undo_move(replace(move, aside=copy, expected=expected), folder_fd, same_boot=same_boot)


def _stage_beside(journal: Journal, run_id: str, id: str, move: PlannedMove, *, same_boot: bool) -> PlannedMove:
    """`move` with a copy beside its target instead of what is staged. Repeatable: nothing in the journal names the copy
    yet."""
    place = make_hidden_folder(move.anchor, run_id, journal, move.target)
    if move.expected is not None and move.expected.type == "directory" and not is_movable(move.target, place):
        raise unmovable_error(move.target)
    if is_below(move.aside, place):
        raise HostError(
            f"{move.target} cannot be replaced: the kernel refuses to rename between its folder and {place}",
            hint="does everything in that folder belong to the folder's own project? See lsattr -p",
        )
    aside = os.path.join(place, _name(id, move))
    if move.content is None:
        return replace(move, aside=aside)
    content = _copy(journal, move.aside, aside, move.target)
    return replace(move, aside=aside, content=content if same_boot else without_device(content))


def _copy(journal: Journal, source: str, copy: str, target: str) -> Signature | None:
    """Makes `copy` what `source` is, on the disk if that is asked for; its signature. Whatever is at `copy` is gone."""
    remove_tree(copy)
    fd = os.open(os.path.dirname(copy), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # or write-back errors are lost
    try:
        is_directory = stat.S_ISDIR(os.lstat(source).st_mode)
        refused = (copy_tree if is_directory else copy_file)(source, copy)
        if refused:
            raise HostError(f"{target} cannot be copied as it is: {'; '.join(refused)}")
        if digest_content(copy) != digest_content(source):
            raise HostError(
                f"the copy of what belongs at {target} is not what it is a copy of",
                hint="look at the kernel's log for the disk's errors",
            )
        if journal.is_durable:
            syncfs(fd)
    finally:
        os.close(fd)
    return take_signature(copy)


def _name(id: str, move: PlannedMove) -> str:
    """A name of its own for each move of a run."""
    return hashlib.blake2b(os.fsencode(f"{id}\0{move.target}"), digest_size=12).hexdigest()
