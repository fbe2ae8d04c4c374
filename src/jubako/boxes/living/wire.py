"""What is said over a living box's control socket: frames of JSON, some with descriptors.

    frame    4 bytes, big-endian: the length of what follows; then a JSON object

The first frame of a connection asks for something, with its descriptors beside the first byte (SCM_RIGHTS). Bytes of
names that are not UTF-8 are lone surrogates, which JSON writes as escapes. A box that was started by another version
of jubako says what it does not understand in words that this one shows.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct

from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ["LONGEST", "Inbox", "pack", "receive", "send"]

LONGEST = 8 << 20  # the kernel takes arguments and environments of 6 MiB
_HEADER = struct.Struct(">I")
_FDS = 8
_CHUNK = 1 << 16


@record(frozen=False)
class Inbox:
    """What has come in of the frames to come; `fds` are its owner's to close."""

    data: bytearray = field(default_factory=bytearray)
    fds: list[int] = field(default_factory=list)

    def next(self) -> dict[str, Any] | None:
        """The next whole frame; None if it isn't there yet. ValueError for what is no frame."""
        if len(self.data) < _HEADER.size:
            return None
        (length,) = _HEADER.unpack_from(self.data)
        if length > LONGEST:
            raise ValueError(f"a frame of {length} bytes")
        if len(self.data) < _HEADER.size + length:
            return None
        text = bytes(self.data[_HEADER.size : _HEADER.size + length])
        del self.data[: _HEADER.size + length]
        frame = json.loads(text)
        if not isinstance(frame, dict):
            raise ValueError("a frame that is no object")
        return frame

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


def pack(frame: Mapping[str, Any]) -> bytes:
    """The frame as bytes."""
    text = json.dumps(frame, separators=(",", ":")).encode("ascii")
    return _HEADER.pack(len(text)) + text


def send(connection: socket.socket, frame: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """Sends the frame, and with it duplicates of `fds`."""
    data = memoryview(pack(frame))
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sent = connection.sendmsg([data], ancillary)
    if sent < len(data):
        connection.sendall(data[sent:])


def receive(connection: socket.socket, inbox: Inbox) -> bool:
    """Takes in what there is now; False at the end of the connection. Descriptors are close-on-exec."""
    data, ancillary, _flags, _address = connection.recvmsg(_CHUNK, socket.CMSG_SPACE(_FDS * 4), socket.MSG_CMSG_CLOEXEC)
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds = array.array("i")
            fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
            inbox.fds += fds
    inbox.data += data
    return bool(data)
