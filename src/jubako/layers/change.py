"""What a run did to its box, as values.

A `Change` names one path and what happened to it, seen from the merged view: a whiteout is a deletion, an upper file
over a lower file is a modification. It says nothing about how overlayfs wrote it down; that is `layers.diff`.
"""

from __future__ import annotations

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

__all__ = ["Change", "ChangeKind", "EntryType"]

# What happened to a path. Of "metadata", content and type are the same; mode, owner, times, xattrs or ACL differ.
# "replaced" is a path by another type of file, or a directory whose old content is hidden (opaque).
ChangeKind: TypeAlias = "Literal['added', 'modified', 'deleted', 'metadata', 'replaced']"
EntryType: TypeAlias = "Literal['file', 'directory', 'symlink', 'fifo', 'socket', 'character', 'block']"


@record
class Change:
    """One changed path. `path` is absolute, as the program in the box named it."""

    path: str
    kind: ChangeKind
    type: EntryType  # of the new entry; of the old one if that was deleted
    size_bytes: int = 0  # of the new content; 0 for anything but a regular file

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Change):
            return NotImplemented
        return self.path < other.path
