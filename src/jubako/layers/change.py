"""What a run did to its box, as values.

A `Change` names one path and what happened to it, seen from the merged view: a whiteout is a deletion, an upper file
over a lower file is a modification. It says nothing about how overlayfs wrote it down; that is `layers.diff`.
"""

from __future__ import annotations

from enum import Enum

from jubako.records import record

__all__ = ["Change", "ChangeKind", "EntryType"]


class ChangeKind(Enum):
    """What happened to a path."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"
    METADATA = "metadata"  # same content and type; mode, owner, times, xattrs or ACL differ
    REPLACED = "replaced"  # another type of file, or a directory whose old content is hidden (opaque)


class EntryType(Enum):
    """Type of a directory entry, by the letters `find -printf %y` and `ls -l` use."""

    FILE = "f"
    DIRECTORY = "d"
    SYMLINK = "l"
    FIFO = "p"
    SOCKET = "s"
    CHARACTER = "c"
    BLOCK = "b"


@record
class Change:
    """One changed path. `path` is absolute, as the program in the box named it."""

    path: str
    kind: ChangeKind
    type: EntryType  # of the new entry; of the old one for DELETED
    size_bytes: int = 0  # of the new content; 0 for anything but a regular file

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Change):
            return NotImplemented
        return self.path < other.path
