"""For code that may run in a box: where a declared output is to be written, and how to speak to the runner.

Outside a box every answer is "not here", so a target can ask without knowing where it runs:

    staged = staged_path(path)          None: write to `path` the usual way
    ... write `staged`, close it ...
    expose(path)                        from now on `path` shows what was written

A process forked by a task keeps the answers; a program it executes has none, and writes declared paths as they are,
which the box collects as well. Standard library only, and as few imports as can be: this is loaded in every child.
"""

from __future__ import annotations

import errno
import itertools
import os
import struct
import threading
from contextlib import suppress

from jubako.errors import BugError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Final

__all__ = [
    "FRAME_HEADER",
    "MESSAGE",
    "UNSHOWN",
    "activate",
    "expose",
    "frame",
    "is_inside",
    "send",
    "staged_path",
    "write_frame",
]

FRAME_HEADER: Final = struct.Struct("=cQ")  # what it is, how many bytes follow
UNSHOWN: Final = ".unshown"  # ends the name of the mark beside a staged file that is finished and has no link
MESSAGE: Final = b"M"


# Where outputs are staged, which of them are directories put in place, and the descriptor for frames.
_box: tuple[Mapping[str, str], Collection[str], int] | None = None
_sending = threading.Lock()  # frames of two threads must not mix
_serial = itertools.count()


def is_inside() -> bool:
    """True in a process that a worker forked to run a task."""
    return _box is not None


def staged_path(path: str | os.PathLike[str]) -> str | None:
    """Where the declared output `path` must be written; None outside a box, and for a path that was not declared.

    For a file nothing is there yet, or what was written before. For a directory output it is the new directory, which
    is empty at the start and which the declared path shows already.
    """
    if _box is None:
        return None
    name = os.fspath(path)
    staged = _box[0]
    return staged.get(name) or staged.get(os.path.abspath(name))


def expose(path: str | os.PathLike[str]) -> None:
    """Makes the declared output `path` show what was written to its staged path, at once; repeatable.

    Its folders are made. Where the folder cannot be written in this box, nothing is shown, and the output is
    published all the same. Raises BugError for a path without a staged one.
    """
    name = os.path.abspath(path)
    staged = staged_path(name)
    if staged is None or _box is None:
        raise BugError(f"{name} is no declared output of this task")
    if name in _box[1]:
        os.utime(staged)  # tells an output that is meant to be empty from one that was never written
        return
    try:
        _place_link(staged, name)
    except OSError as error:
        if not isinstance(error, PermissionError) and error.errno != errno.EROFS:
            raise
        # Root may publish where it may not write in a box, which it does without its capabilities.
        os.close(os.open(staged + UNSHOWN, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def send(data: bytes) -> None:
    """Sends `data` to the runner, where it comes out as a `Message`; outside a box nothing happens. Thread-safe."""
    if _box is not None:
        with _sending:
            write_frame(_box[2], MESSAGE, data)


def activate(staged: Mapping[str, str], directories: Collection[str], frames_fd: int) -> None:
    """Says that this process runs in a box, for good. `staged` maps declared paths to where they are staged;
    `directories` are those of them where the staging directory itself is mounted.
    """
    global _box  # noqa: PLW0603  a process is in a box or not; every target in it must be able to ask
    _box = (staged, directories, frames_fd)


def frame(kind: bytes, data: bytes) -> bytes:
    """One frame: its kind, its length, `data`."""
    return FRAME_HEADER.pack(kind, len(data)) + data


def write_frame(fd: int, kind: bytes, data: bytes) -> None:
    """Writes one frame to a blocking descriptor whose reader lives."""
    whole = frame(kind, data)
    sent = os.write(fd, whole)
    while sent < len(whole):
        sent += os.write(fd, memoryview(whole)[sent:])


def _place_link(staged: str, name: str) -> None:
    try:
        os.symlink(staged, name)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(name), exist_ok=True)
        os.symlink(staged, name)
    except FileExistsError:
        with suppress(OSError):
            if os.readlink(name) == staged:
                return
        temporary = f"{name}-jubako-tmp-{os.getpid()}-{next(_serial)}"
        os.symlink(staged, temporary)
        try:
            os.replace(temporary, name)
        except BaseException:
            os.unlink(temporary)
            raise
