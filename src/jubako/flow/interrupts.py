"""Ctrl-C and its kin, turned into something the run loop asks about between two steps.

    first SIGINT, SIGTERM or SIGHUP      start nothing more, ask what runs to end, publish what has ended
    second                               kill what runs; publishing is finished all the same
    SIGUSR1, where it is asked for       start nothing more, let what runs end

Handlers only count. They interrupt a wait through a pipe, and raise KeyboardInterrupt only where `may_raise` says that
a task's own code is on the stack, which could run for hours in this process. In a process that such a task forks, a
signal does what it did before the block: a pool of `multiprocessing` ends its workers with SIGTERM, and one that waits
for a semaphore in C would never get to a handler in Python.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Final, Self

__all__ = ["Interrupts"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Counts interrupts while the `with` block runs. In a thread that is not the main one it counts none."""

    def __init__(self, may_raise: Callable[[], bool], *, winds_down_on_usr1: bool = False) -> None:
        self.count = 0
        self.is_winding_down = False
        self._winds_down_on_usr1 = winds_down_on_usr1
        self._may_raise = may_raise
        self._before: dict[int, Any] = {}
        self._read_fd = self._write_fd = -1
        self._old_wakeup_fd = -1
        self._outer: Interrupts | None = None

    def __enter__(self) -> Self:
        global _entered
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        if threading.current_thread() is threading.main_thread():
            self._old_wakeup_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
            for number in _SIGNALS:
                # A program started with nohup ignores SIGHUP on purpose.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
            if self._winds_down_on_usr1:
                self._before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._wind_down)
            self._outer, _entered = _entered, self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        global _entered  # noqa: PLW0603
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if _entered is self:
            _entered = self._outer
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._old_wakeup_fd)
        os.close(self._read_fd)
        os.close(self._write_fd)

    def fileno(self) -> int:
        """Readable after any signal; `drain` makes it unreadable again."""
        return self._read_fd

    def drain(self) -> None:
        """Forgets that there were signals, not how many interrupts."""
        with suppress(BlockingIOError):
            while os.read(self._read_fd, 512):
                pass

    def restore_in_fork(self) -> None:
        """Makes signals do what they did before the block, in a process that was forked within it."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self._may_raise():
            raise KeyboardInterrupt

    def _wind_down(self, number: int, frame: FrameType | None) -> None:
        self.is_winding_down = True


_entered: Interrupts | None = None


def _restore_in_fork() -> None:
    if _entered is not None:
        _entered.restore_in_fork()


os.register_at_fork(after_in_child=_restore_in_fork)
