"""The note in a box that says which of its files are copies of the machine's, for when overlayfs's own was taken off.

    copied-up    their paths on the machine, each ended by a null byte; a path may be there more than once

Overlayfs's note (`origin`) must not get out of a box with an inode that is given away, and committing may fail then.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["note_copied_up", "read_copied_up"]

_NAME = "copied-up"


def note_copied_up(directory: str, paths: Iterable[str]) -> None:
    """Adds `paths` to the note in the box `directory`, and has it on the disk."""
    text = b"".join(os.fsencode(path) + b"\0" for path in paths)
    if text:
        with open(os.path.join(directory, _NAME), "ab") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def read_copied_up(directory: str) -> list[str]:
    """The paths in the note in the box `directory`."""
    try:
        with open(os.path.join(directory, _NAME), "rb") as file:
            return [os.fsdecode(path) for path in file.read().split(b"\0")[:-1]]
    except FileNotFoundError:
        return []
