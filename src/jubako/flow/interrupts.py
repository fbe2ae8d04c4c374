"""Ctrl-C and its kin, turned into something the run loop asks about between two steps.

    first SIGINT, SIGTERM or SIGHUP      start nothing more, ask what runs to end, publish what has ended
    second                               kill what runs; publishing is finished all the same

Handlers only count. They interrupt a wait through a pipe, and raise KeyboardInterrupt only where `may_raise` says that
a task's own code is on the stack, which could run for hours in this process. A process that such a task forks has
inherited them; there, a signal does what it did before the block (a pool of `multiprocessing` ends its workers so).
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

    def __init__(self, may_raise: Callable[[], bool]) -> None:
        self.count = 0
        self._pid = os.getpid()
        self._may_raise = may_raise
        self._before: dict[int, Any] = {}
        self._read_fd = self._write_fd = -1
        self._old_wakeup_fd = -1

    def __enter__(self) -> Self:
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        if threading.current_thread() is threading.main_thread():
            self._old_wakeup_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
            for number in _SIGNALS:
                # A program started with nohup ignores SIGHUP on purpose.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
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

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
            return
        self.count += 1
        if self._may_raise():
            raise KeyboardInterrupt
