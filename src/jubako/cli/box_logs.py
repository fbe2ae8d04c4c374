"""Prints the log of a living box, and reads along while the box runs."""

from __future__ import annotations

import os
import select

from jubako.boxes.living import control
from jubako.boxes.living.keeper import LOG_NAME
from jubako.cli.terminal import echo_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.boxes.living.find import Found

__all__ = ["print_log"]

_CHUNK = 1 << 16
_LOOK_MS = 200  # between two looks at a log that is followed


def print_log(found: Found, *, follow: bool, tail: int | None) -> None:
    """Prints the log as it is, its last `tail` lines alone if that is said; with `follow`, until the box ends."""
    with open(os.path.join(found.directory, LOG_NAME), "rb") as log:
        line = control.connect(found.directory) if follow else None
        if tail is not None:
            log.seek(_find_tail(log.fileno(), tail))
        _copy(log.fileno())
        if line is None:
            return
        with line:  # its other end is closed when the box has ended
            poll = select.poll()
            poll.register(line.socket, select.POLLIN)
            while not poll.poll(_LOOK_MS):
                _copy(log.fileno())
        _copy(log.fileno())


def _copy(fd: int) -> None:
    while chunk := os.read(fd, _CHUNK):
        echo_bytes(chunk)


def _find_tail(fd: int, lines: int) -> int:
    """Where the last `lines` lines begin, found from the end."""
    end = os.fstat(fd).st_size
    at, wanted = end, lines
    if end and os.pread(fd, 1, end - 1) != b"\n":
        wanted -= 1
    if lines == 0:
        return end
    while at > 0:
        start = max(0, at - _CHUNK)
        chunk = os.pread(fd, at - start, start)
        count = chunk.count(b"\n")
        if count > wanted:
            for _ in range(count - wanted):
                cut = chunk.index(b"\n") + 1
                start, chunk = start + cut, chunk[cut:]
            return start
        wanted -= count
        at = start
    return 0
