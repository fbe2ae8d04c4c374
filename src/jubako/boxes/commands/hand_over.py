"""Plans how what a box has gets into its places, with as little copying as can be.

    given away   files, and new directories with all below them: renamed right from the box, or exchanged with what they
                 replace
    copied       everything else: on another mount, or with something that must not get out of a box (`layers.release`).
                 Directories that replace something, too: the marks that make them do so would have to come off first

While a commit is going on, what is given away is in the box or in its place, and what it replaces may be in the box. So
the box says so (`keeping.interrupted`), and nobody has it before that is over, or recovered. What is copied is still in
the box when it has been published. What is given away loses overlayfs's notes; which of it were copies of the machine's
files is written down in the box before.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat

from jubako.boxes.commands.folder_pair import FolderPair
from jubako.boxes.commands.give_files import NoteRemover, copy_files, delete_files, give_files
from jubako.boxes.spec import Output
from jubako.boxes.transactions.folders import find_anchor
from jubako.boxes.transactions.planned import PlannedMoves
from jubako.boxes.transactions.publish import Move, Signature, take_signature
from jubako.boxes.transactions.signature import signature_of
from jubako.errors import HostError
from jubako.kernel.files import statx
from jubako.kernel.syscalls import AT_FDCWD
from jubako.layers.copy import copy_file, copy_tree
from jubako.layers.release import Released
from jubako.layers.remove import remove_tree
from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.boxes.commands.box_files import BoxFiles
    from jubako.boxes.commands.conflicts import Conflicts
    from jubako.boxes.commands.plan_commit import CommitPlan
    from jubako.boxes.transactions.stage import StageArea
    from jubako.layers.change import Change

__all__ = ["FolderChanges", "HandedOver", "hand_over", "sort_by_folder"]


@record
class FolderChanges:
    """What a plan does in one directory of the machine."""

    contents: list[Change] = field(default_factory=list)
    deletions: list[Change] = field(default_factory=list)


@record
class HandedOver:
    """What can be published."""

    planned: PlannedMoves = field(default_factory=PlannedMoves)
    moves: list[Move] = field(default_factory=list)
    copied: list[Change] = field(default_factory=list)  # what the box has still when it is published
    refused: list[str] = field(default_factory=list)  # what was left out, in words


def sort_by_folder(plan: CommitPlan) -> dict[str, FolderChanges]:
    """What `plan` does in each directory, by their paths, sorted."""
    folders: dict[str, FolderChanges] = {}
    for change in plan.contents:
        folders.setdefault(_folder_of(change.path), FolderChanges()).contents.append(change)
    for change in plan.deletions:
        folders.setdefault(_folder_of(change.path), FolderChanges()).deletions.append(change)
    return dict(sorted(folders.items()))


def hand_over(
    area: StageArea, folders: dict[str, FolderChanges], files: BoxFiles, conflicts: Conflicts, notes: NoteRemover
) -> HandedOver:
    """Prepares what is published in `folders`. Raises ConflictError as `conflicts` does, HostError where something
    cannot be written."""
    result = HandedOver()
    places = _Places(area)
    for folder, changes in folders.items():
        contents, deletions = changes.contents, changes.deletions
        source = files.find_folder(folder)
        if source is not None:
            with FolderPair(folder, source) as pair:
                if contents and places.reach(source, contents[0].path):
                    contents = give_files(pair, contents, conflicts, notes, result.planned)
                if contents:
                    contents = _copy_files(pair, contents, conflicts, places, result)
                if deletions:
                    asides = area.make_asides(deletions[0].path)
                    deletions = delete_files(pair, deletions, conflicts, asides, result.planned)
        anchor = find_anchor(f"{folder.rstrip('/')}/x") if contents or deletions else None
        for change in deletions:
            result.moves.append(Move(None, change.path, conflicts.look(change), anchor))
        for change in contents:
            expected = conflicts.look(change)
            places.check(change.path, expected, anchor)
            move = _give_away(change, expected, anchor, (files, places, notes))
            if move is None:
                staged = _copy(change, (files, places), result.refused)
                move = Move(staged, change.path, expected, anchor)
                result.copied.append(change)
            result.moves.append(move)
    notes.flush()
    return result


class _Places:
    """Where things can be renamed from, and names to stage copies under."""

    def __init__(self, area: StageArea) -> None:
        self._area = area
        self._home_mount = statx(AT_FDCWD, area.home).mnt_id
        self._reached: dict[tuple[str, str], bool] = {}
        self._staged: dict[str, str] = {}
        self._serial = itertools.count()

    def reach(self, upper: str, path: str) -> bool:
        """True if what is in the box's directory `upper` can be renamed to `path`, and back."""
        key = (upper, _folder_of(path))
        if key not in self._reached:
            self._reached[key] = (
                self._area.check(Output(path))
                and statx(AT_FDCWD, upper).mnt_id == self._home_mount
                and os.access(upper, os.W_OK | os.X_OK, effective_ids=True)
            )
        return self._reached[key]

    def check(self, path: str, expected: Signature | None, anchor: tuple[int, int] | None) -> None:
        """Raises HostError if what is at `path` cannot be replaced: a mount point, a directory that cannot be moved."""
        if expected is not None and (expected.type == "directory" or (anchor and expected.device != anchor[0])):
            self._area.check(Output(path))

    def stage(self, path: str) -> tuple[str, Iterator[str]]:
        """A directory to stage copies in of what belongs in the folder of `path`, and free names there."""
        folder = _folder_of(path)
        if folder not in self._staged:
            (output,) = self._area.stage(f"commit-{len(self._staged)}", [Output(path)])
            self._staged[folder] = output.staged
        directory, _, name = self._staged[folder].rpartition("/")
        return directory, (f"{name}-{number}" for number in self._serial)


def _copy_files(
    pair: FolderPair, contents: list[Change], conflicts: Conflicts, places: _Places, result: HandedOver
) -> list[Change]:
    """Copies the files among `contents`; what is left of those."""
    files = [change for change in contents if change.type != "directory"]
    if not files:
        return contents
    try:
        place = places.stage(files[0].path)
        rest = copy_files(pair, files, conflicts, place, result.planned, result.refused)
    except OSError as error:
        raise _explain(error, error.filename) from error
    left = {change.path for change in rest}
    result.copied.extend(change for change in files if change.path not in left)
    return [change for change in contents if change.type == "directory" or change.path in left]


def _folder_of(path: str) -> str:
    """As os.path.dirname, for an absolute, normal path: there may be a hundred thousand."""
    return path.rpartition("/")[0] or "/"


def _give_away(
    change: Change,
    expected: Signature | None,
    anchor: tuple[int, int] | None,
    tools: tuple[BoxFiles, _Places, NoteRemover],
) -> Move | None:
    """The move that puts the inode itself into place; None if it must be copied."""
    files, places, notes = tools
    source, found = files.look(change.path)
    is_directory = stat.S_ISDIR(found.st_mode)
    if is_directory and expected is not None:
        return None
    if not files.is_in_upper(change.path) or not places.reach(_folder_of(source), change.path):
        return None
    released = Released()
    released.look(source, found)
    if is_directory and not released.obstacle:
        content = take_signature(source, look=lambda *entries: _look_into(source, released, *entries))
    else:
        content = signature_of(found)
    if released.obstacle:
        return None
    for path, names in released.notes:
        notes.add(path, names, path="" if is_directory else change.path)
    return Move(source, change.path, expected, anchor, content)


def _look_into(source: str, released: Released, folder: str, entries: Sequence[tuple[str, os.stat_result]]) -> None:
    where = source if folder == "." else f"{source}/{folder[2:]}"
    for name, found in entries:
        released.look(f"{where}/{name}", found)


def _copy(change: Change, tools: tuple[BoxFiles, _Places], refused: list[str]) -> str:
    """Copies the box's version to the staging area; its name there."""
    files, places = tools
    directory, names = places.stage(change.path)
    staged = f"{directory}/{next(names)}"
    refused += _copy_any(files.find(change.path), staged, change.path)
    for output, kept in files.staged_below(change.path):  # apart from the upper that has their directory
        destination = staged + output.path[len(change.path) :]
        remove_tree(destination)
        os.makedirs(os.path.dirname(destination), exist_ok=True)
        refused += _copy_any(kept, destination, output.path)
    return staged


def _copy_any(source: str, destination: str, shown: str) -> tuple[str, ...]:
    is_directory = stat.S_ISDIR(os.lstat(source).st_mode)
    try:
        return (copy_tree if is_directory else copy_file)(source, destination, shown=shown)
    except OSError as error:
        raise _explain(error, shown) from error


def _explain(error: OSError, shown: str) -> HostError:
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return HostError(
        f"{shown} cannot be committed: {error.strerror}",
        hint=f"Make room on the disk of {os.path.dirname(shown)}." if is_full else "",
    )
