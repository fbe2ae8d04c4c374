"""Plans the moves of many files at once, those of a folder one after another.

    new        renamed right from the box's directory
    changed    exchanged with what they replace, which is in the box's directory until it is removed
    copied     what must not be given away as it is: copied to the staging area, and renamed or exchanged from there
    deleted    renamed to the staging area

A hundred thousand files take one look each at what the machine has, at what the box has and at its attributes. All that
is not as simple is left to `hand_over`: directories, and what is elsewhere than most of its folder.
"""

from __future__ import annotations

import os
import stat

from jubako.boxes.commands.file_moves import FileMoves
from jubako.boxes.keeping.copied_up import note_copied_up
from jubako.layers.copy import copy_entry
from jubako.layers.release import find_notes, take_off
from jubako.layers.whiteout import ORIGIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.boxes.commands.conflicts import Conflicts
    from jubako.boxes.commands.folder_pair import FolderPair
    from jubako.boxes.transactions.planned import PlannedMoves
    from jubako.layers.change import Change

__all__ = ["NoteRemover", "copy_files", "delete_files", "give_files"]

_NOTES_AT_ONCE = 4096
_OPEN_STAGING = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NoteRemover:
    """Takes overlayfs's notes off what the box in `directory` gives away. `flush` it at the end.

    Which of the paths were copies of the machine's is on the disk, in the box, before the first of their notes is gone;
    so that is done for many at once.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._notes: list[tuple[str, tuple[str, ...]]] = []
        self._copies: list[str] = []

    def add(self, source: str, notes: tuple[str, ...], *, path: str = "") -> None:
        """Adds the box's `source`; its `path` on the machine, if it is a file by that name."""
        self._notes.append((source, notes))
        if path and not ORIGIN.isdisjoint(notes):
            self._copies.append(path)
        if len(self._notes) >= _NOTES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Takes off what was added."""
        note_copied_up(self._directory, self._copies)
        for source, notes in self._notes:
            take_off(source, notes)
        self._copies.clear()
        self._notes.clear()


def give_files(
    pair: FolderPair, changes: Sequence[Change], conflicts: Conflicts, notes: NoteRemover, planned: PlannedMoves
) -> list[Change]:
    """Adds to `planned` what puts new and changed files of one folder in their places; those that cannot be given away.

    Raises ConflictError as `conflicts` does.
    """
    rest: list[Change] = []
    moves = FileMoves(pair, pair.source, planned)
    for change in changes:
        path = change.path
        name = path.rpartition("/")[2]
        source = f"{pair.source}/{name}"
        state, found = pair.find_source(name), pair.find_target(name)
        if found is not None:
            conflicts.check_time(path, found)
        is_simple = state is not None and _is_file(state, pair) and (found is None or _is_file(found, pair))
        taken_off = find_notes(source, state) if state is not None and is_simple else None
        if taken_off is None:
            rest.append(change)
            continue
        if found is None:
            conflicts.check_missing(path, source, taken_off)
        moves.add(name, name, state, found)
        if taken_off:
            notes.add(source, taken_off, path=path)
    moves.finish()
    return rest


def copy_files(
    pair: FolderPair,
    changes: Sequence[Change],
    conflicts: Conflicts,
    place: tuple[str, Iterator[str]],
    planned: PlannedMoves,
    refused: list[str],
) -> list[Change]:
    """As `give_files`, with copies: `place` is a staging directory, and names there. What is left out of a copy is
    added to `refused`, in words.

    Raises OSError, with the path on the machine, where a copy cannot be made.
    """
    staging, asides = place
    rest: list[Change] = []
    moves = FileMoves(pair, staging, planned)
    staging_fd = os.open(staging, _OPEN_STAGING)
    try:
        for change in changes:
            path = change.path
            name = path.rpartition("/")[2]
            state, found = pair.find_source(name), pair.find_target(name)
            if found is not None:
                conflicts.check_time(path, found)
            is_copied = state is not None and not stat.S_ISDIR(state.st_mode)
            if state is None or not is_copied or not (found is None or _is_file(found, pair)):
                rest.append(change)
                continue
            if found is None:
                source = f"{pair.source}/{name}"
                conflicts.check_missing(path, source, os.listxattr(source, follow_symlinks=False))
            aside = next(asides)
            try:
                refused += copy_entry((name, pair.source_fd), (aside, staging_fd), state, path)
            except OSError as error:
                raise OSError(error.errno, error.strerror, path) from error
            moves.add(name, aside, os.stat(aside, dir_fd=staging_fd, follow_symlinks=False), found)
    finally:
        os.close(staging_fd)
    moves.finish()
    return rest


def delete_files(
    pair: FolderPair,
    changes: Sequence[Change],
    conflicts: Conflicts,
    place: tuple[str, Iterator[str]],
    planned: PlannedMoves,
) -> list[Change]:
    """As `give_files`, for deleted files: `place` is a staging directory, and names there."""
    staging, asides = place
    rest: list[Change] = []
    moves = FileMoves(pair, staging, planned)
    for change in changes:
        name = change.path.rpartition("/")[2]
        found = pair.find_target(name)
        if found is None:
            continue
        conflicts.check_time(change.path, found)
        if _is_file(found, pair):
            moves.add(name, next(asides), None, found)
        else:
            rest.append(change)
    moves.finish()
    return rest


def _is_file(found: os.stat_result, pair: FolderPair) -> bool:
    """False for directories, and for mount points: what the kernel may not rename to or from here."""
    return not stat.S_ISDIR(found.st_mode) and found.st_dev == pair.anchor[0]
