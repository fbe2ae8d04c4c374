"""What a box did to a text file, as a unified diff against this machine's version. Bounded: a box may hold anything."""

from __future__ import annotations

import os
import stat

from jubako.boxes.commands.box_files import BoxFiles
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.layers.change import Change

__all__ = ["TextDiff", "diff_text"]

_MOST_BYTES = 256 << 10
_MOST_LINES = 5000
_CONTEXT = 3
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@record
class TextDiff:
    """The lines of a diff, without their ends, or in words why there is none."""

    lines: tuple[str, ...] = ()
    why_not: str = ""


def diff_text(files: BoxFiles, change: Change) -> TextDiff | None:
    """How the box's version of the file differs from the machine's; None for what has no text to compare.

    Bytes that are not UTF-8 are lone surrogates, as in names. A file that cannot be read has no diff, and says so.
    """
    if change.type not in ("file", "symlink") or change.kind == "metadata":
        return None
    try:
        new = "" if change.kind == "deleted" else _read(files.find(change.path))
        old = "" if change.kind == "added" else _read(change.path)
    except OSError as error:
        return TextDiff(why_not=f"cannot be read: {error.strerror}")
    for text in (old, new):
        if text is None:
            return TextDiff(why_not=f"above {_MOST_BYTES >> 10} KiB")
        if "\0" in text:
            return TextDiff(why_not="not text")
    assert old is not None and new is not None
    before, after = old.splitlines(), new.splitlines()
    if max(len(before), len(after)) > _MOST_LINES:
        return TextDiff(why_not=f"above {_MOST_LINES} lines")
    import difflib  # 2 ms to import, for who looks at changes

    was, now = (change.path if text else os.devnull for text in (old, new))
    return TextDiff(tuple(difflib.unified_diff(before, after, was, now, n=_CONTEXT, lineterm="")))


def _read(path: str) -> str | None:
    """The text of a file, or where a link leads; None if it is too large, "" if it is neither."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return f"symbolic link to {os.readlink(path)}"
    if not stat.S_ISREG(found.st_mode):
        return ""
    if found.st_size > _MOST_BYTES:
        return None
    fd = os.open(path, _OPEN)
    with os.fdopen(fd, "rb") as file:
        return os.fsdecode(file.read(_MOST_BYTES))
