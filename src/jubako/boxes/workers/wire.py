"""Messages between a runner and a worker: whole Python values over one stream socket, never blocking by accident.

A message is its length (8 bytes, little endian) and a pickle. Both ends run this code as the same user; nothing that a
task made is ever in a pickle but as bytes and text. One `Channel` is one end.
"""

from __future__ import annotations

import os
import pickle
import select
import struct

from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Cancel", "Channel", "Note", "Ready", "Setup", "read_message"]

_HEADER = struct.Struct("<Q")
_READ_BYTES = 1 << 16


@record
class Setup:
    """The first message to a worker: what it is to be."""

    preload: str  # "module:function", called with `preload_argument` to import the pipeline
    preload_argument: bytes
    sys_path: tuple[str, ...]
    cwd: str
    hidden: tuple[str, ...]
    scratch_root: str


@record
class Ready:
    """The first answer: the worker can take jobs, or never will (`error`)."""

    mode: str = ""
    view: str = ""
    error: str = ""
    hint: str = ""
    traceback: str = ""


@record
class Note:
    """Something to tell the user once."""

    text: str


@record
class Cancel:
    """Asks for the end of a job."""

    job_id: str


@record(frozen=False)
class Channel:
    """One end of the socket; the descriptor is the caller's and becomes non-blocking."""

    fd: int
    is_closed: bool = False  # the other end is gone
    _incoming: bytearray = field(default_factory=bytearray)
    _outgoing: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        os.set_blocking(self.fd, False)

    @property
    def unsent_bytes(self) -> int:
        return len(self._outgoing)

    def send(self, message: object) -> None:
        """Sends `message` as far as the socket takes it; the rest waits for `flush`."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._outgoing += _HEADER.pack(len(data)) + data
        self.flush()

    def flush(self) -> None:
        """Sends what waits, as far as the socket takes it."""
        while self._outgoing and not self.is_closed:
            try:
                sent = os.write(self.fd, self._outgoing)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                self.is_closed = True
                return
            del self._outgoing[:sent]

    def flush_all(self) -> None:
        """Sends all that waits. Reads meanwhile, since the other end may be doing the same."""
        self.flush()
        while self._outgoing and not self.is_closed:
            self._wait(select.POLLIN | select.POLLOUT)
            self._fill()
            self.flush()

    def receive(self) -> list[Any]:
        """The messages that have come in completely; does not wait. A half message at the end of the stream is lost."""
        self._fill()
        messages = []
        start = 0
        while len(self._incoming) - start >= _HEADER.size:
            (size,) = _HEADER.unpack_from(self._incoming, start)
            end = start + _HEADER.size + size
            if len(self._incoming) < end:
                break
            messages.append(pickle.loads(memoryview(self._incoming)[start + _HEADER.size : end]))
            start = end
        del self._incoming[:start]
        return messages

    def _fill(self) -> None:
        while not self.is_closed:
            try:
                data = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            if not data:
                self.is_closed = True
                return
            self._incoming += data
            if len(data) < _READ_BYTES:
                return  # a stream socket gives all it has; what comes later is polled for

    def _wait(self, events: int) -> None:
        poll = select.poll()
        poll.register(self.fd, events)
        poll.poll()


def read_message(fd: int) -> Any:
    """Waits for one message on the blocking descriptor `fd` and reads not a byte more. EOFError if none comes."""
    (size,) = _HEADER.unpack(_read_exactly(fd, _HEADER.size))
    return pickle.loads(_read_exactly(fd, size))


def _read_exactly(fd: int, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = os.read(fd, size - len(data))
        if not piece:
            raise EOFError(f"{len(data)} of {size} bytes came")
        data += piece
    return bytes(data)
