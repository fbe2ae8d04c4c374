"""Brings what a box has to where it can be renamed into place from, with as little copying as can be.

    moved    new: it stays in the box's upper directory and is renamed from there. Nothing is displaced by it
    linked   in the place of a file: a second name in the staging area, since what is displaced must not end in the box
    copied   everything else: on another mount, or with something that must not get out of a box (`layers.release`)

What is moved is in the box or in its place at every moment, so the box must not be swept before recovery has seen to
it: its record is saved first. What is linked or copied is still in the box when it has been published. Inodes that are
given away lose overlayfs's notes; which of them were copies of the machine's files is written down in the box before.
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.boxes.keeping.copied_up import note_copied_up
from jubako.boxes.spec import Output
from jubako.boxes.transactions.publish import Move, Signature, take_signature
from jubako.boxes.transactions.signature import signature_of
from jubako.errors import HostError
from jubako.kernel.files import statx
from jubako.kernel.syscalls import AT_FDCWD
from jubako.layers.copy import copy_file, copy_tree
from jubako.layers.release import Released
from jubako.layers.remove import remove_tree
from jubako.records import field, record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jubako.boxes.commands.box_files import BoxFiles
    from jubako.boxes.commands.plan_commit import CommitPlan
    from jubako.boxes.transactions.stage import StageArea
    from jubako.layers.change import Change

__all__ = ["HandedOver", "hand_over"]


@record(frozen=False)
class HandedOver:
    """What can be published. `strip` it first; `is_moved` says that the box must be kept until that is over."""

    moves: list[Move]
    refused: list[str] = field(default_factory=list)  # what was left out, in words
    is_moved: bool = False
    released: list[Released] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)  # paths whose inode is given away, and was a copy of the machine's

    def strip(self, directory: str) -> None:
        """Takes overlayfs's notes off what is given away by the box in `directory`."""
        note_copied_up(directory, self.copies)
        for released in self.released:
            released.strip()


def hand_over(
    area: StageArea,
    plan: CommitPlan,
    found: tuple[Mapping[str, Signature | None], Mapping[str, tuple[int, int]]],
    files: BoxFiles,
) -> HandedOver:
    """Prepares what `plan` publishes; `found` is what stands at each path now, and the anchor of each folder."""
    expected, anchors = found
    moves = [
        Move(None, change.path, expected[change.path], anchors[_folder_of(change.path)]) for change in plan.deletions
    ]
    result = HandedOver(moves)
    places = _Places(area, plan)
    for change in plan.contents:
        source, state = files.look(change.path)
        if places.reach(source, change.path) and files.is_in_upper(change.path):
            move = _give_away(change, source, state, expected[change.path], places, result)
        else:
            move = None
        if move is None:
            staged = places.make_name(change.path, expected[change.path])
            result.refused += _copy(source, staged, change.path)
            for output, kept in files.staged_below(change.path):  # apart from the upper that has their directory
                destination = staged + output.path[len(change.path) :]
                remove_tree(destination)
                os.makedirs(os.path.dirname(destination), exist_ok=True)
                result.refused += _copy(kept, destination, output.path)
            move = Move(staged, change.path, expected[change.path])
        result.moves.append(replace(move, anchor=anchors[_folder_of(change.path)]))
    return result


class _Places:
    """Names to stage things under, for each folder that something is published in."""

    def __init__(self, area: StageArea, plan: CommitPlan) -> None:
        firsts: dict[str, str] = {}
        for change in plan.contents:
            firsts.setdefault(_folder_of(change.path), change.path)
        self._area = area
        staged = area.stage("commit", [Output(path) for path in firsts.values()])
        self._staged = {folder: output.staged for folder, output in zip(firsts, staged, strict=True)}
        self._at_home = {folder: area.is_below_state_root(output) for folder, output in self._staged.items()}
        self._devices: dict[str, int] = {}
        self._mounts: dict[str, int] = {}
        self._home_mount = 0
        self._count = 0

    def reach(self, source: str, path: str) -> bool:
        """True if the box's file `source` can be renamed to `path`."""
        if not self._at_home[_folder_of(path)]:
            return False
        upper = _folder_of(source)
        if upper not in self._mounts:
            self._mounts[upper] = statx(AT_FDCWD, upper).mnt_id
            self._home_mount = self._home_mount or statx(AT_FDCWD, self._area.home).mnt_id
        return self._mounts[upper] == self._home_mount

    def make_name(self, path: str, expected: Signature | None) -> str:
        """A free name to stage `path` under."""
        folder = _folder_of(path)
        if expected is not None and (expected.type == "directory" or expected.device != self._device(folder)):
            self._area.check(Output(path))  # a mount point, perhaps, or a directory that cannot be moved
        self._count += 1
        return f"{self._staged[folder]}-{self._count}"

    def _device(self, folder: str) -> int:
        if folder not in self._devices:
            existing = folder
            while not os.path.isdir(existing):
                existing = os.path.dirname(existing)
            self._devices[folder] = os.stat(existing).st_dev
        return self._devices[folder]


def _folder_of(path: str) -> str:
    """As os.path.dirname, for an absolute, normal path: there may be a hundred thousand."""
    return path.rpartition("/")[0] or "/"


def _give_away(
    change: Change,
    source: str,
    found: os.stat_result,
    expected: Signature | None,
    places: _Places,
    result: HandedOver,
) -> Move | None:
    """The move that puts the inode itself into place; None if it must be copied."""
    is_directory = stat.S_ISDIR(found.st_mode)
    if is_directory and expected is not None:
        return None
    released = Released()
    released.look(source, found)
    if is_directory and not released.obstacle:
        content = take_signature(source, look=lambda *entries: _look_into(source, released, *entries))
    else:
        content = signature_of(found)
    if released.obstacle:
        return None
    if expected is None:
        result.is_moved = True
        staged = source
    else:
        staged = places.make_name(change.path, expected)
        try:
            os.link(source, staged, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP):
                raise _explain(error, change.path) from error
            return None
    if released.notes:
        result.released.append(released)
        if not is_directory and any(name.endswith(".origin") for _, names in released.notes for name in names):
            result.copies.append(change.path)
    return Move(staged, change.path, expected, content=content)


def _look_into(source: str, released: Released, folder: str, entries: Sequence[tuple[str, os.stat_result]]) -> None:
    where = source if folder == "." else f"{source}/{folder[2:]}"
    for name, found in entries:
        released.look(f"{where}/{name}", found)


def _copy(source: str, destination: str, shown: str) -> tuple[str, ...]:
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
