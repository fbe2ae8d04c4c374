"""A note in the directory of a box whose command runs in somebody's foreground: what, since when, and whose child.

    boxes/ID/running    pid of the one who waits, start in nanoseconds, the command: each ended by a null byte

It means nothing once nobody holds the directory. Written without JSON, whose import would take longer than all else.
"""

from __future__ import annotations

import os

from jubako.records import record

__all__ = ["RunningNote", "note_running", "read_running"]

_NAME = "running"


@record
class RunningNote:
    """What runs in a box."""

    pid: int
    started_ns: int
    command: str


def note_running(directory: str, started_ns: int, command: str) -> None:
    """Notes what runs in the box, for who looks. OSError on a full disk."""
    fd = os.open(os.path.join(directory, _NAME), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, os.fsencode(f"{os.getpid()}\0{started_ns}\0{command}\0"))
    finally:
        os.close(fd)


def read_running(directory: str) -> RunningNote | None:
    """The note, None if there is no whole one."""
    try:
        with open(os.path.join(directory, _NAME), "rb") as file:
            words = os.fsdecode(file.read()).split("\0")
        return RunningNote(int(words[0]), int(words[1]), words[2])
    except (OSError, ValueError, IndexError):
        return None
