"""Signals for a command that runs in a box: handed down from process to process, or left to the terminal.

The command stays in the caller's process group and keeps its terminal. Ctrl-C and Ctrl-Z are typed there, and the
terminal sends them to the whole group, the command included: handing them down too would deliver them twice. A signal
sent to one process alone is handed down.
"""

from __future__ import annotations

import os

from jubako.kernel.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

__all__ = ["RELAYED", "Foreground", "Relay"]

RELAYED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGQUIT)
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)


class Relay:
    """Hands signals down for the time of a `with` block; those that were ignored stay ignored (nohup).

    Those that come before there is a child are kept for it. Python lets only the main thread set handlers: in another,
    signals do what they did.
    """

    def __init__(self) -> None:
        self._child = 0
        self._early: tuple[int, ...] = ()
        self._before: dict[int, Any] = {}  # handlers to be put back

    def __enter__(self) -> Relay:
        try:
            for number in RELAYED:
                handler = signal.getsignal(number)
                signal.signal(number, handler if handler is signal.SIG_IGN else self.hand_down)
                self._before[number] = handler
        except ValueError:  # this is not the main thread
            return self
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    @property
    def child(self) -> int:
        return self._child

    @child.setter
    def child(self, pid: int) -> None:
        self._child = pid
        early, self._early = self._early, ()
        for number in early:
            self.hand_down(number, None)

    def hand_down(self, number: int, _frame: FrameType | None) -> None:
        if number in _FROM_TERMINAL and _is_in_foreground():
            return  # typed at the terminal, which has sent it to the whole process group
        if not self._child:
            self._early += (number,)
            return
        try:
            os.kill(self._child, number)
        except ProcessLookupError:  # it has ended, and this process is about to learn of it
            return


def _is_in_foreground() -> bool:
    """True if this process's group is the one its terminal sends Ctrl-C to."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


class Foreground:
    """Gives the terminal back to this process's group at the end of a `with` block, if that had it at the beginning.

    An interactive shell takes it for groups of its own, and from inside a pid namespace cannot name ours to give back.
    """

    def __enter__(self) -> None:
        self._had_it = _is_in_foreground()

    def __exit__(self, *_error: object) -> None:
        if not self._had_it or _is_in_foreground():
            return
        try:
            terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError:  # it is gone
            return
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # or the kernel stops us for it
        try:
            os.tcsetpgrp(terminal, os.getpgrp())
        except OSError:  # it has hung up
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(terminal)
