"""One message on its way: a process with its own session, a time to be over by, and an end that is a sentence.

Deliveries are processes because nothing else can be ended whatever it waits for (a look-up of a name, a server that
says a byte a minute), and because a run, which forks, has no threads. What it prints is read as it comes, and
the last of it is kept.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Sequence
from typing import Final

from jubako.flow.interrupts import Interrupts
from jubako.flow.notices.order import Order
from jubako.kernel.process_tree import signal_tree

__all__ = ["Delivery", "wait_for_deliveries"]

_KEPT_BYTES: Final = 4096
_PIECE_BYTES: Final = 65_536


class Delivery:
    """A process that was started for an order at `began_s` of the monotonic clock. OSError if it can't be."""

    def __init__(self, order: Order, began_s: float) -> None:
        self.due_s = began_s + order.timeout_s
        self.problem = ""  # why the message did not arrive, once it is over
        self.is_over = False
        self._order = order
        self._printed = b""
        self._is_silent = False  # nobody is left who could print
        with open(os.memfd_create("jubako-message"), "w+b") as data:  # no pipe: it may never be read
            data.write(order.data)
            data.seek(0)
            self._process = subprocess.Popen(
                order.words,
                stdin=data,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=order.environ,
                cwd=order.folder or None,
                start_new_session=True,
                bufsize=0,
            )
        assert self._process.stdout is not None  # it is a pipe
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self._kill()
            self._output.close()
            raise

    def filenos(self) -> tuple[int, ...]:
        """Readable when there is something for `look` to see."""
        return (self._pidfd,) if self._is_silent else (self._pidfd, self._output.fileno())

    def look(self, now_s: float) -> None:
        """Takes in what has happened, and ends what should be over."""
        if self.is_over:
            return
        self._read()
        if (code := self._process.poll()) is not None:
            self._read()
            self._end(self._describe(code))
        elif now_s >= self.due_s:
            self.cut_short(f"it was not over within {self._order.timeout_s:g} s, and was killed")

    def cut_short(self, why: str) -> None:
        """Kills it, with all it has started."""
        if not self.is_over:
            self._kill()
            self._end(why)

    def _kill(self) -> None:
        signal_tree(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _end(self, problem: str) -> None:
        self.problem = problem
        self.is_over = True
        os.close(self._pidfd)
        self._output.close()

    def _read(self) -> None:
        while not self._is_silent:
            try:
                piece = os.read(self._output.fileno(), _PIECE_BYTES)
            except BlockingIOError:
                return
            self._printed = (self._printed + piece)[-_KEPT_BYTES:]
            self._is_silent = not piece

    def _describe(self, code: int) -> str:
        if code == 0:
            return ""
        lines = self._printed.decode("utf-8", "replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if self._order.is_ours and code == 1 and said:
            return said
        end = f"it was killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{end}: {said}" if said else end


def wait_for_deliveries(deliveries: Sequence[Delivery], now_s: float, interrupts: Interrupts) -> None:
    """Waits until one of them has something to look at, or is due, or a signal comes. None of them is over."""
    poll = select.poll()
    for fd in (interrupts.fileno(), *(fd for each in deliveries for fd in each.filenos())):
        poll.register(fd, select.POLLIN)
    due_s = min((each.due_s for each in deliveries), default=now_s)
    poll.poll(max(0.0, due_s - now_s) * 1000 + 1)
