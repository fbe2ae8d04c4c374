"""Types of directory entries, from what stat says."""

from __future__ import annotations

import stat

from jubako.layers.change import EntryType

__all__ = ["type_of"]

_TYPES = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFIFO: EntryType.FIFO,
    stat.S_IFSOCK: EntryType.SOCKET,
    stat.S_IFCHR: EntryType.CHARACTER,
    stat.S_IFBLK: EntryType.BLOCK,
}


def type_of(mode: int) -> EntryType:
    """The type of entry that the `st_mode` value `mode` stands for."""
    return _TYPES[stat.S_IFMT(mode)]
