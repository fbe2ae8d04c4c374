"""What a program, its box server and the first process of a box say to each other: one packet a message.

    program ──── a socket for requests ────> server      Request, with an answer socket and the command's 0, 1 and 2
    program <─── the answer socket ───────── server      Started, or facts that say why there is no box; of a supervised
                                                         box, from its supervisor, when it has ended
    program <─── the answer socket ───────── box         facts (`commands.report`), the last of them `ended STATUS`
    program <─── the answer socket ───────── server      gone STATUS: its processes and mounts are gone
    program ──── the answer socket ────────> server      KEEP, SIGNAL; closed: nobody waits, or holds the box

Server and program are of one user and run the same code, so their messages are pickles. What comes after Started may
be a command's forgery, if it may trace the first process of its box, and is read as words. A message that is too large
for a packet, as an environment may be, goes in an anonymous file whose descriptor is sent instead.
"""

from __future__ import annotations

import array
import os
import pickle
import socket

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from jubako.boxes.commands.become import Identity
    from jubako.boxes.keeping.kept_record import BoxRecord
    from jubako.boxes.spec import Box
    from jubako.boxes.views.bound_files import Copies

__all__ = [
    "ENDED",
    "ERROR",
    "EXCEEDED",
    "GONE",
    "KEEP",
    "SIGNAL",
    "USAGE",
    "Refused",
    "Request",
    "Started",
    "receive",
    "receive_packet",
    "send",
]

ENDED, GONE = "ended", "gone"  # facts whose value is the command's status, as a shell shows it
ERROR, EXCEEDED, USAGE = "error", "exceeded", "usage"  # facts of a supervised box: sentences, and a Usage as JSON
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
    user: Identity | None = None


@record
class Started:
    """The command is about to run, or has run. The box is held until the answer socket is closed."""

    record: BoxRecord
    facts: tuple[tuple[str, str], ...]  # what the first process reported by now
    copies: Copies
    is_supervised: bool = False  # what comes is said by jubako alone


@record
class Refused:
    """There is no box, as `facts` say."""

    facts: tuple[tuple[str, str], ...]


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


def receive_packet(where: socket.socket) -> tuple[bytes, list[int]]:
    """The next packet, b"" at the end, and the descriptors that came with it, closed when a program is executed.

    As `socket.recv_fds`, which leaves its flags out in Python 3.11 and so would leak them.
    """
    fds = array.array("i")
    room = socket.CMSG_LEN(_FDS_AT_MOST * fds.itemsize)
    data, ancillary, _flags, _address = where.recvmsg(_PACKET_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, given in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(given[: len(given) - len(given) % fds.itemsize])
    return data, list(fds)


def receive(where: socket.socket) -> tuple[Any, list[int]]:
    """The next message and the descriptors that came with it, which the caller owns. EOFError if no more will come."""
    data, fds = receive_packet(where)
    if not data:
        raise EOFError("the other end is gone")
    if data == _IN_A_FILE:
        with os.fdopen(fds.pop(), "rb") as stream:
            stream.seek(0)
            data = stream.read()
    return pickle.loads(data), fds
