"""The pid 1 of a living box: starts what is asked for, tells how it ended, and ends the box.

It listens on a socket that it inherited, whose path no view shows. Whoever connects must be this user and must be
outside (seen from in here, processes outside have no number); then the first frame asks for one thing:

    spawn       a program on three descriptors, or on a terminal of the box's: answers with its pid, later with its
                exit. Until then the caller may send signals; when the caller goes away, the program gets SIGHUP.
    members     the processes of the box
    root        a descriptor of the root directory, to look up names in (openat2)
    still       everything holds still for as long as the connection lasts; what is to be started meanwhile waits
    stop        the end: SIGTERM, time to act on it, and then, with pid 1, everything is killed

The box ends with its main command; without one, when it is stopped; and one that was started for the sake of a few
programs, when the last of them has ended.

Nothing is imported from here on: the view may hide Python. It is one process and one thread, so nothing waits for one
connection alone.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time

from jubako.boxes.living import members, spawning, wire
from jubako.kernel.children import exit_status
from jubako.kernel.signals import signal
from jubako.records import as_dict, field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypeAlias

    from jubako.boxes.resources.restrain import Restraint

    Lasting: TypeAlias = "Literal['command', 'stopped', 'errands']"

__all__ = ["Server"]

_PEER = struct.Struct("=iII")  # pid, uid, gid
_GRACE_OF_A_SIGNAL_S = 10.0
_BAD = 2
_POLL_LIMIT_MS = 60_000


@record(frozen=False)
class _Connection:
    socket: socket.socket
    inbox: wire.Inbox = field(default_factory=wire.Inbox)
    pid: int = 0  # of the program that was started for it
    on_terminal: bool = False
    is_still: bool = False  # it has everything hold still


class Server:
    """What pid 1 does. `listener` is the socket (None: nobody can connect); `lasting` says how long the box lives
    when nobody stops it."""

    def __init__(self, listener: socket.socket | None, lasting: Lasting, restraint: Restraint | None = None) -> None:
        self._listener = listener
        self._lasting = lasting
        self._restraint = restraint
        self._connections: dict[int, _Connection] = {}
        self._held_back: list[_Connection] = []  # asked for a program while everything holds still
        self._still: list[int] = []
        self._main = 0
        self._status: int | None = None
        self._killed_at: float | None = None
        self._was_reached = False
        self._stoppers: list[_Connection] = []  # told that the box has ended by their end
        self._poll = select.poll()

    @property
    def ending(self) -> tuple[str, int | None]:
        """How the box ended, "exited" or "stopped", and the status of its main command."""
        return "exited" if self._killed_at is None else "stopped", self._status

    def start_main(self, order: spawning.Order, stdio: tuple[int, int, int]) -> None:
        """Starts the main command. Raises NotStartable."""
        self._main = spawning.spawn(order, stdio, self._restraint)

    def start_main_on_terminal(self, order: spawning.Order, connection: socket.socket) -> None:
        """Starts the main command on a terminal of the box's, whose master goes to whoever has the other end of
        `connection`, as if that had asked for the command. Raises NotStartable."""
        self._main, master = spawning.spawn_on_terminal(order, self._restraint)
        asker = _Connection(connection, pid=self._main, on_terminal=True)
        self._answer(asker, {"pid": self._main}, (master,))
        os.close(master)
        self._add(asker)

    def serve(self) -> None:
        """Answers until the box is to end."""
        woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, self._hear)
        if self._listener is not None:
            self._listener.setblocking(False)
            self._poll.register(self._listener, select.POLLIN)
        self._poll.register(woken, select.POLLIN)
        os.write(wake, b"\0")  # the main command may have ended before there was a handler
        while not self._is_over():
            for fd, _events in self._poll.poll(self._timeout_ms()):
                if fd == woken:
                    os.read(woken, 512)
                elif self._listener is not None and fd == self._listener.fileno():
                    self._accept(self._listener)
                elif fd in self._connections:
                    self._read(self._connections[fd])
            self._reap()

    def _hear(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._stop(_GRACE_OF_A_SIGNAL_S)

    # --- when it is over ---------------------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        if self._killed_at is not None and time.monotonic() >= self._killed_at:
            return True
        if self._main:
            return self._status is not None
        if self._lasting == "command":
            return True
        if self._killed_at is not None or (self._lasting == "errands" and self._was_reached):
            return not self._connections and not _has_children()
        return False

    def _timeout_ms(self) -> int:
        if self._killed_at is None:
            return _POLL_LIMIT_MS
        return max(0, min(_POLL_LIMIT_MS, int((self._killed_at - time.monotonic()) * 1000) + 1))

    def _stop(self, grace_s: float) -> None:
        killed_at = time.monotonic() + grace_s
        if self._killed_at is None or killed_at < self._killed_at:
            self._killed_at = killed_at
        self._go_on()
        if self._main:
            _send(self._main, signal.SIGTERM)
            return
        for connection in self._connections.values():
            if connection.on_terminal:  # a shell that talks to somebody takes no notice of SIGTERM
                _send(-connection.pid, signal.SIGHUP)
        _send(-1, signal.SIGTERM)
        _send(-1, signal.SIGCONT)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._main:
                self._status = exit_status(status)
            for connection in list(self._connections.values()):
                if connection.pid == pid:
                    self._tell_exit(connection, exit_status(status))

    def _tell_exit(self, connection: _Connection, status: int) -> None:
        connection.pid = 0
        is_last = self._lasting == "errands" and len(self._connections) == 1 and not _has_children()
        self._answer(connection, {"exit": status, "last": is_last})
        if is_last:  # who waits for it finds the box as it was before
            self._wait_with(connection)
        else:
            self._drop(connection)

    def _wait_with(self, connection: _Connection) -> None:
        """Leaves the connection to be closed by the end of this process, which tells that the box has ended."""
        del self._connections[connection.socket.fileno()]
        self._poll.unregister(connection.socket)
        self._stoppers.append(connection)

    # --- connections -------------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _address = listener.accept()
        except OSError:  # it has gone away, or there are no descriptors left
            return
        pid, uid, _gid = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if pid or uid != os.geteuid():
            connection.close()
            return
        self._was_reached = True
        self._add(_Connection(connection))

    def _add(self, connection: _Connection) -> None:
        connection.socket.setblocking(False)
        self._connections[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.POLLIN)

    def _read(self, connection: _Connection) -> None:
        try:
            lives = wire.receive(connection.socket, connection.inbox)
            while lives and connection.socket.fileno() in self._connections and connection not in self._held_back:
                frame = connection.inbox.next()
                if frame is None:
                    return
                self._obey(connection, frame)
        except BlockingIOError:
            return
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._answer(connection, {"error": f"what was asked is not understood: {error!r}", "status": _BAD})
            lives = False
        except OSError:
            lives = False
        if not lives:
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection.socket.fileno(), None) is None:
            return
        self._poll.unregister(connection.socket)
        connection.socket.close()
        connection.inbox.close()
        if connection in self._held_back:
            self._held_back.remove(connection)
        if connection.pid:
            _send(-connection.pid, signal.SIGHUP)
            _send(-connection.pid, signal.SIGCONT)
        if connection.is_still and not any(one.is_still for one in self._connections.values()):
            self._go_on()

    def _answer(self, connection: _Connection, frame: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        try:
            wire.send(connection.socket, frame, fds)
        except OSError:  # it has gone away, or does not read what it asked for
            return

    # --- what can be asked -------------------------------------------------------------------------------------------

    def _obey(self, connection: _Connection, frame: dict[str, Any]) -> None:
        if "signal" in frame:
            if connection.pid:
                _send(-connection.pid, int(frame["signal"]))
            return
        match frame.get("ask"):
            case "spawn":
                self._spawn(connection, frame)
            case "members":
                found = [as_dict(one) for one in members.read_members()]
                self._answer(connection, {"members": found, "main": self._main})
            case "root":
                root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    self._answer(connection, {"root": True}, (root,))
                finally:
                    os.close(root)
            case "still":
                self._hold_still(connection)
            case "stop":
                self._stop(max(0.0, float(frame["grace_s"])))
                self._answer(connection, {"stopping": True})
                self._wait_with(connection)
            case other:
                raise ValueError(f"{other!r}, by another version of jubako perhaps")

    def _spawn(self, connection: _Connection, frame: dict[str, Any]) -> None:
        if self._still:
            self._held_back.append(connection)
            connection.inbox.data[:0] = wire.pack(frame)
            return
        order = spawning.parse_order(frame)
        try:
            if frame["tty"]:
                pid, master = spawning.spawn_on_terminal(order, self._restraint)
                fds: tuple[int, ...] = (master,)
            else:
                given = connection.inbox.fds
                if len(given) != 3:
                    raise ValueError(f"{len(given)} descriptors instead of three")
                pid, fds = spawning.spawn(order, (given[0], given[1], given[2]), self._restraint), ()
        except spawning.NotStartable as error:
            self._answer(connection, {"error": str(error), "status": error.status})
            self._drop(connection)
            return
        connection.inbox.close()
        self._answer(connection, {"pid": pid}, fds)
        for fd in fds:
            os.close(fd)
        if frame.get("detach"):
            self._drop(connection)
            return
        connection.pid = pid
        connection.on_terminal = bool(frame["tty"])

    def _hold_still(self, connection: _Connection) -> None:
        if not self._still:
            try:
                self._still = members.hold_still()
            except TimeoutError as error:
                self._answer(connection, {"error": str(error), "status": _BAD})
                return
        connection.is_still = True
        self._answer(connection, {"still": len(self._still)})

    def _go_on(self) -> None:
        members.let_go_on(self._still)
        self._still = []
        waiting, self._held_back = self._held_back, []
        for connection in waiting:
            self._read_again(connection)

    def _read_again(self, connection: _Connection) -> None:
        frame = connection.inbox.next()
        if frame is not None:
            self._obey(connection, frame)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:  # it has ended, or there is no such signal
        return


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
