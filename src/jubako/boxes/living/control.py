"""The control socket of a living box: where it is, how its pid 1 is reached, and what it is asked.

boxes/ID/control is a Unix socket (mode 0600, in a directory of mode 0700) that no view shows. It is reached by way of
a descriptor of its directory, since the path of a Unix socket may have 107 bytes alone. Nobody listens there when the
box doesn't run: the kernel refuses the connection then, so what this says of a box is never out of date.
"""

from __future__ import annotations

import os
import socket

from jubako.boxes.living import wire
from jubako.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Any, Self

__all__ = ["Gone", "Line", "connect", "forget", "is_running", "listen"]

_NAME = "control"
_WAITING = 128  # connections that pid 1 has not taken yet


class Gone(HostError):
    """The box has ended."""


def listen(directory: str) -> socket.socket:
    """The socket of the box, which the caller holds: made anew, whatever a killed box left."""
    forget(directory)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _Directory(directory) as path:
            listener.bind(path)
            os.chmod(path, 0o600)
        listener.listen(_WAITING)
    except BaseException:
        listener.close()
        raise
    return listener


def forget(directory: str) -> None:
    """Removes the socket's name."""
    try:
        os.unlink(os.path.join(directory, _NAME))
    except FileNotFoundError:
        return


def connect(directory: str) -> Line | None:
    """A connection to the box's pid 1, None if the box doesn't run."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _Directory(directory) as path:
            connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return Line(connection)


def is_running(directory: str) -> bool:
    """True if the box runs."""
    line = connect(directory)
    if line is None:
        return False
    line.close()
    return True


class Line:
    """A connection to a box's pid 1. The first thing sent on it asks for something."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.inbox = wire.Inbox()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def send(self, frame: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Sends a frame. Raises Gone if the box has ended."""
        try:
            wire.send(self.socket, frame, fds)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise _gone() from error

    def ask(self, ask: str, fds: Sequence[int] = (), **details: Any) -> dict[str, Any]:
        """Asks for something and waits for the answer."""
        self.send({"ask": ask, **details}, fds)
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """The next frame, which is waited for. Raises Gone if the box has ended."""
        while (frame := self.inbox.next()) is None:
            if not self.read():
                raise _gone()
        return frame

    def read(self) -> bool:
        """Takes in what has come; False at the end."""
        try:
            return wire.receive(self.socket, self.inbox)
        except ConnectionResetError:
            return False

    def take_fd(self) -> int:
        """The next descriptor that came with a frame; the caller owns it."""
        if not self.inbox.fds:
            raise HostError("the box sent no descriptor", hint="Are this process's descriptors used up (ulimit -n)?")
        return self.inbox.fds.pop(0)

    def wait_for_end(self) -> None:
        """Waits until the other end is closed."""
        while self.read():
            self.inbox.data.clear()

    def close(self) -> None:
        self.inbox.close()
        self.socket.close()


def _gone() -> Gone:
    return Gone("the box has ended meanwhile", hint="'jubako box ps --all' shows how.")


class _Directory:
    """A short path of the socket, for the time of a `with` block."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def __enter__(self) -> str:
        self._fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{_NAME}"

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)
