"""Starts programs in a living box, as its pid 1: each in a session of its own, on the caller's descriptors or on a new
terminal of the box's.

Nothing is imported when it is called: the view of the box may hide Python.
"""

from __future__ import annotations

import os
import termios

from jubako.boxes.commands.become import Identity
from jubako.boxes.commands.first import NOT_EXECUTABLE, NOT_FOUND, bind, find_program, fork_prepared
from jubako.kernel.signals import signal
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from jubako.boxes.resources.restrain import Restraint

__all__ = ["NotStartable", "Order", "parse_order", "spawn", "spawn_on_terminal"]

_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
# What pid 1 has handlers for, or its caller had ignored, is as usual in what it starts.
_USUAL = (*_IGNORED_BY_PYTHON, signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


class NotStartable(Exception):
    """The program cannot be executed; `status` is what a shell would end with."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@record
class Order:
    """A program to start. `cwd` is a path in the box."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: str
    umask: int = 0o022
    user: Identity | None = None  # who it is to be, in a box of root's
    size: tuple[int, int] = (0, 0)  # of the terminal it is to have: rows and columns


def parse_order(frame: Mapping[str, Any]) -> Order:
    """The order in a frame. KeyError, TypeError or ValueError if it is none."""
    argv = tuple(str(word) for word in frame["argv"])
    environment = {str(name): str(value) for name, value in frame["environment"].items()}
    if not argv or any("\0" in word for word in (*argv, *environment, *environment.values())):
        raise ValueError("the command is empty, or it or its environment holds a null byte")
    user = None
    if frame.get("user"):
        uid, gid, *groups = (int(number) for number in frame["user"])
        user = Identity(uid, gid, tuple(groups))
    rows, columns = (int(number) & 0xFFFF for number in frame.get("size", (0, 0)))
    return Order(argv, environment, str(frame["cwd"]), int(frame["umask"]) & 0o777, user, (rows, columns))


def spawn(order: Order, stdio: tuple[int, int, int], restraint: Restraint | None = None) -> int:
    """The pid of the program, whose stdin, stdout and stderr are `stdio`, numbers above 2. Raises NotStartable."""
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(stdio)]
    return _spawn(order, actions, restraint)


def spawn_on_terminal(order: Order, restraint: Restraint | None = None) -> tuple[int, int]:
    """The pid of the program, which has a new terminal of this box's for its own, and a descriptor of the master."""
    try:
        master, slave = os.openpty()
    except OSError as error:
        raise NotStartable(f"there is no terminal in the box: {error.strerror}", NOT_EXECUTABLE) from error
    try:
        termios.tcsetwinsize(master, order.size)  # now: the program may ask at once
        # The first terminal that the leader of a session opens becomes the session's.
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.ttyname(slave), os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_DUP2, 0, 2),
        ]
        return _spawn(order, actions, restraint), master
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)


def _spawn(order: Order, actions: list[Any], restraint: Restraint | None) -> int:
    before = os.umask(order.umask)
    try:
        try:
            os.chdir(order.cwd)
        except OSError as error:
            raise NotStartable(
                f"the working directory {order.cwd} cannot be entered in the box: {error.strerror}", NOT_EXECUTABLE
            ) from error
        try:
            path = find_program(order.argv[0], order.environment.get("PATH", os.defpath))
            if restraint is not None or order.user is not None:
                return _fork_bound(path, order, actions, restraint)
            return os.posix_spawn(
                path,
                list(order.argv),
                dict(order.environment),
                file_actions=actions,
                setsid=True,
                setsigmask=[],
                setsigdef=_USUAL,
            )
        except OSError as error:
            is_missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
            raise NotStartable(
                f"cannot run {order.argv[0]!r}: {error.strerror}", NOT_FOUND if is_missing else NOT_EXECUTABLE
            ) from error
    finally:
        os.umask(before)
        os.chdir("/")


def _fork_bound(path: str, order: Order, actions: list[Any], restraint: Restraint | None) -> int:
    """As posix_spawn(3), for a program that is to have limits or be somebody else's, as this process must not."""

    def prepare() -> None:
        signal.set_wakeup_fd(-1)
        for number in _USUAL:
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        for action in actions:
            if action[0] == os.POSIX_SPAWN_OPEN:
                os.dup2(os.open(action[2], action[3]), action[1])
            else:
                os.dup2(action[1], action[2])
        bind(restraint, order.user)

    return fork_prepared(path, order.argv, order.environment, prepare)
