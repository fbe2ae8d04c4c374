"""Single files bound over others (/etc/hosts in a container): a box that may change them has copies in their place.

A copy that nobody has written to is taken out before the changes are read: a change of the machine's own, made
meanwhile, would look like one of the box's.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

__all__ = ["Copies", "drop_untouched_files", "is_untouched", "note_copies"]

Copies: TypeAlias = "dict[str, tuple[int, ...]]"  # paths, and what shows that somebody has written there


def note_copies(paths: Iterable[str]) -> Copies:
    """The state of the copies `paths`, which have just been made."""
    return {path: _read_state(path) for path in paths}


def drop_untouched_files(copies: Copies) -> None:
    """Removes the copies that nobody has written to since `note_copies`. The box must have ended."""
    for path, state in copies.items():
        if is_untouched(path, state):
            os.unlink(path)


def is_untouched(path: str, state: tuple[int, ...]) -> bool:
    """True if nobody has written to the copy since `note_copies`; False if it is gone, too."""
    return os.path.lexists(path) and _read_state(path) == state


def _read_state(path: str) -> tuple[int, ...]:
    """No program can set back when an inode was last changed (ctime). The rest shows a change within one tick of the
    clock, some milliseconds before Linux 6.13: the copies have the older time of modification of what was copied."""
    found = os.stat(path)
    return (found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_mode, found.st_uid, found.st_gid)
