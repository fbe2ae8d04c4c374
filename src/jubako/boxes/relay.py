"""Signals for a command that runs in a box: handed down from process to process, or left to the terminal.

The command stays in the caller's process group and keeps its terminal. Ctrl-C and Ctrl-Z are typed there, and the
terminal sends them to the whole group, the command included: handing them down too would deliver them twice. A signal
sent to one process alone is handed down.
"""

from __future__ import annotations

import contextlib
import os
import signal

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["RELAYED", "Relay", "foreground_restored", "relay_signals"]

RELAYED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGQUIT)
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)


@record(frozen=False)
class Relay:
    """Whom signals are handed down to. Those that come before there is a child are kept for it."""

    _child: int = 0
    _early: tuple[int, ...] = ()

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
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, number)


@contextlib.contextmanager
def relay_signals() -> Iterator[Relay]:
    """Hands signals down for the time of the block; those that were ignored stay ignored (nohup).

    Python lets only the main thread set handlers: in another, signals do what they did.
    """
    relay = Relay()
    before = {number: signal.getsignal(number) for number in RELAYED}
    try:
        signal.signal(signal.SIGTERM, before[signal.SIGTERM])
    except ValueError:  # "signal only works in main thread"
        yield relay
        return
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, relay.hand_down)
        yield relay
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


@contextlib.contextmanager
def foreground_restored() -> Iterator[None]:
    """Gives the terminal back to this process's group afterwards, if that had it before.

    An interactive shell takes it for groups of its own, and from inside a pid namespace cannot name ours to give back.
    """
    had_it = _is_in_foreground()
    try:
        yield
    finally:
        if had_it and not _is_in_foreground():
            with contextlib.suppress(OSError):
                terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
                mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # or the kernel stops us for it
                try:
                    os.tcsetpgrp(terminal, os.getpgrp())
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                    os.close(terminal)
