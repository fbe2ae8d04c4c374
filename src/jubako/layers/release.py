"""Giving away what is in an upper directory as it is, without a copy: files and trees that hold nothing to be kept in.

A copy leaves behind what must not get out of a box (`layers.copy`); an inode that is moved takes it along. So
only that is given away which has none of it: no setuid or setgid bit on a file, no device, pipe or socket, no
attributes but the user's own and ACLs, no name elsewhere that would share its content. Overlayfs's notes are taken off.
Everything else is for a copy, which says in words what it leaves out.

Whoever walks the tree tells of each entry, and of each directory before what is in it; it costs one call for an entry.
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.layers.attributes import is_kept_attribute
from jubako.layers.whiteout import ORIGIN, is_overlay_attribute
from jubako.records import field, record

__all__ = ["Released", "find_notes", "is_harmless", "take_off"]

_MOST_CHARACTERS = 1000  # of a directory's path: what is deeper is copied as far as a path can say
_PRIVILEGE_BITS = stat.S_ISUID | stat.S_ISGID


@record(frozen=False)
class Released:
    """What may be given away once the `notes` are taken off, paths with those of overlayfs they have. It must not be if
    there is an `obstacle`."""

    obstacle: bool = False
    notes: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def look(self, path: str, found: os.stat_result) -> None:
        """Takes a file, a symbolic link or a directory (not what is in it) into account."""
        if self.obstacle:
            return
        if stat.S_ISDIR(found.st_mode):
            # What its owner may not look into is not looked into, unless by root.
            is_open = found.st_mode & 0o500 == 0o500 or os.geteuid() == 0
            self.obstacle = bool(found.st_mode & stat.S_ISUID) or not is_open or len(path) > _MOST_CHARACTERS
            notes = None if self.obstacle else _notes_among(_list_attributes(path))
        else:
            notes = find_notes(path, found)
        self.obstacle = notes is None
        if notes:
            self.notes.append((path, notes))


def find_notes(path: str, found: os.stat_result) -> tuple[str, ...] | None:
    """The notes of overlayfs on a file or a symbolic link, to be taken off before that is given away; None if it must
    not be."""
    if found.st_nlink != 1 or not is_harmless(found):
        return None
    return _notes_among(_list_attributes(path))


def take_off(path: str, notes: tuple[str, ...]) -> None:
    """Takes overlayfs's notes off a file or directory. Repeatable."""
    for name in notes:
        _remove_attribute(path, name)


def is_harmless(found: os.stat_result) -> bool:
    """True for a file without setuid and setgid bits, or a symbolic link: by its mode it may be given away."""
    if stat.S_ISREG(found.st_mode):
        return not found.st_mode & _PRIVILEGE_BITS
    return stat.S_ISLNK(found.st_mode)


def _list_attributes(path: str) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def _notes_among(names: list[str]) -> tuple[str, ...] | None:
    """Those of the attributes `names` that are overlayfs's notes; None if one is neither such nor kept by a copy.

    Of the notes, a whiteout or a file whose content is elsewhere is not what it seems, so that counts as the latter.
    """
    if len(names) == 1 and names[0] in ORIGIN:
        return (names[0],)  # of most files that were changed
    notes = []
    for name in names:
        if is_overlay_attribute(name):
            if name.endswith((".whiteout", ".metacopy", ".redirect")):
                return None
            notes.append(name)
        elif not is_kept_attribute(name):
            return None
    return tuple(notes)


def _remove_attribute(path: str, name: str) -> None:
    try:
        _remove_writable(path, name)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise


def _remove_writable(path: str, name: str) -> None:
    try:
        os.removexattr(path, name, follow_symlinks=False)
    except PermissionError:  # `user.*` of a file that is read-only for its owner
        mode = stat.S_IMODE(os.lstat(path).st_mode)
        os.chmod(path, mode | 0o200)
        try:
            os.removexattr(path, name, follow_symlinks=False)
        finally:
            os.chmod(path, mode)
