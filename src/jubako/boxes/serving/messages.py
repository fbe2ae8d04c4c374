"""What a program and its box server say to each other: one packet a message, with the descriptors that go with it.

    program ──── a socket for requests ────> server      Request, with an answer socket and the command's 0, 1 and 2
    program <─── an answer socket each ────> server      Finished; bytes the other way (KEEP, a signal)

Both are of one user and run the same code, so messages are pickles. One that is too large for a packet, as an
environment may be, goes in an anonymous file whose descriptor is sent instead.
"""

from __future__ import annotations

import os
import pickle
import socket

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from jubako.boxes.keeping.kept_record import BoxRecord
    from jubako.boxes.spec import Box

__all__ = ["KEEP", "SIGNAL", "Finished", "Request", "receive", "send"]

KEEP = b"keep"  # the box is a kept one now: let go of it, and leave it there
SIGNAL = b"signal "  # and its number: for the command

_PACKET_BYTES = 1 << 16
_FDS_AT_MOST = 8
_IN_A_FILE = b"file"


@record
class Request:
    """A command to run in a box. `state` is the path of an open state root."""

    box: Box
    argv: tuple[str, ...]
    cwd: str
    environment: dict[str, str]
    state: str


@record
class Finished:
    """The command has ended, and all it started with it; or there is no box, as `facts` say (`commands.report`).

    The box is held until the answer socket is closed.
    """

    exit_status: int
    facts: tuple[tuple[str, str], ...]
    record: BoxRecord | None


def send(to: socket.socket, message: object, fds: Sequence[int] = ()) -> None:
    """Sends `message` with copies of `fds`."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    if len(data) <= _PACKET_BYTES:
        socket.send_fds(to, [data], fds)
        return
    file = os.memfd_create("jubako-message")
    try:
        with os.fdopen(file, "wb", closefd=False) as stream:
            stream.write(data)
        socket.send_fds(to, [_IN_A_FILE], [*fds, file])
    finally:
        os.close(file)


def receive(where: socket.socket) -> tuple[Any, list[int]]:
    """The next message and the descriptors that came with it, which the caller owns. EOFError if no more will come."""
    data, fds, _flags, _address = socket.recv_fds(where, _PACKET_BYTES, _FDS_AT_MOST)
    if not data:
        raise EOFError("the other end is gone")
    if data == _IN_A_FILE:
        with os.fdopen(fds.pop(), "rb") as stream:
            stream.seek(0)
            data = stream.read()
    return pickle.loads(data), fds
