"""Types of directory entries: from what stat says, and as letters."""

from __future__ import annotations

import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.layers.change import EntryType

__all__ = ["LETTERS", "type_of"]

LETTERS: dict[EntryType, str] = {  # as `find -printf %y` and `ls -l` show them
    "file": "f",
    "directory": "d",
    "symlink": "l",
    "fifo": "p",
    "socket": "s",
    "character": "c",
    "block": "b",
}
_TYPES: dict[int, EntryType] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character",
    stat.S_IFBLK: "block",
}


def type_of(mode: int) -> EntryType:
    """The type of entry that the `st_mode` value `mode` stands for."""
    return _TYPES[stat.S_IFMT(mode)]
