"""Watches one child of the zygote until it has ended and everything it started is dead.

The zygote is pid 1 of its pid namespace and runs one job at a time, so "everything" is every other process there:
kill(-1) reaches all of them at once (no fork can slip through: the kernel holds the task list meanwhile), whatever
session, group or parent they chose, and what they leave behind is pid 1's to reap.

While a child runs, its output and its frames are passed on, and the runner is listened to. A runner that is gone ends
the zygote, and the kernel then ends the namespace.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from jubako.boxes.inside import FRAME_HEADER, MESSAGE
from jubako.boxes.job import Message, Printed
from jubako.boxes.wire import Cancel, Channel
from jubako.kernel.children import exit_status

__all__ = ["GARBLED", "Answer", "Deadline", "Ended", "Outflow", "kill_everything", "watch"]

Stopped = Literal["", "timeout", "cancelled"]

GARBLED = b"?"  # a frame that our code did not write, or that is too long

_PIPE_BYTES = 1 << 16
_UNSENT_LIMIT_BYTES = 1 << 20  # beyond it a task that prints waits for the runner to read
_ANSWER_LIMIT_BYTES = 1 << 28
_REAP_EVERY_MS = 1000  # orphans that end while a task runs; until then each holds a place in the process table


@dataclass(slots=True)
class Outflow:
    """What a job printed, on its way to the runner, up to a limit."""

    job_id: str
    channel: Channel
    left_bytes: int

    def pass_on(self, data: bytes) -> None:
        if self.left_bytes <= 0:
            return
        self.channel.send(Printed(self.job_id, data[: self.left_bytes]))
        self.left_bytes -= len(data)
        if self.left_bytes <= 0:
            self.channel.send(Printed(self.job_id, b"\n[jubako: the rest of the output was dropped, it is too long]\n"))


@dataclass(slots=True)
class Deadline:
    """When a job's time is over; shared by its call and its check."""

    at: float | None  # time.monotonic
    grace_s: float


@dataclass(slots=True)
class Answer:
    """What a child said through its frames."""

    kind: bytes = b""  # child.REPORT, FAILURE or REJECTED, or GARBLED; empty if it ended without a word
    data: bytes = b""


@dataclass(slots=True)
class Ended:
    """How a child ended, with all it started."""

    status: int = 0  # as a shell shows it
    answer: Answer = field(default_factory=Answer)
    stopped: Stopped = ""
    cpu_s: float = 0.0
    peak_bytes: int = 0


def watch(pid: int, frames_fd: int, output_fd: int, outflow: Outflow, deadline: Deadline) -> Ended:
    """Waits for the child `pid` to end, then ends everything else. Both descriptors are the reading ends of pipes.

    The caller holds their writing ends open too, so that they never report an end of file. Raises EOFError when the
    runner is gone.
    """
    return _Watch(pid, frames_fd, output_fd, outflow, deadline).run()


def kill_everything(ended: Ended) -> None:
    """Kills every process of this pid namespace but this one, and waits until none is left."""
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    while True:
        try:
            _, _, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return
        _count(ended, usage)


class _Watch:
    def __init__(self, pid: int, frames_fd: int, output_fd: int, outflow: Outflow, deadline: Deadline) -> None:
        self._pid = pid
        self._frames_fd = frames_fd
        self._output_fd = output_fd
        self._outflow = outflow
        self._channel = outflow.channel
        self._deadline = deadline
        self._kill_at: float | None = None
        self._ended = Ended()
        self._has_ended = False
        self._frames = bytearray()
        self._poll = select.poll()
        self._listened: dict[int, int] = {}
        os.set_blocking(frames_fd, False)
        os.set_blocking(output_fd, False)

    def run(self) -> Ended:
        pidfd = os.pidfd_open(self._pid)
        try:
            self._listen(pidfd, select.POLLIN)
            self._listen(self._frames_fd, select.POLLIN)
            while not self._has_ended:
                self._listen_as_needed()
                events = self._poll.poll(self._wait_ms())
                for fd, _ in events:
                    if fd == pidfd:
                        self._reap(self._pid)
                    else:
                        self._serve(fd)
                if not events:
                    self._reap(-1)
                self._keep_time()
        finally:
            os.close(pidfd)
        kill_everything(self._ended)
        # Nobody is left to write, so what the pipes hold is all there will be.
        for fd in (self._output_fd, self._frames_fd):
            while self._read(fd):
                pass
        return self._ended

    def _listen_as_needed(self) -> None:
        """A runner that does not read what was printed makes the task wait, and nothing else."""
        unsent = self._channel.unsent_bytes
        self._listen(self._channel.fd, select.POLLIN | (select.POLLOUT if unsent else 0))
        self._listen(self._output_fd, select.POLLIN if unsent < _UNSENT_LIMIT_BYTES else 0)

    def _listen(self, fd: int, events: int) -> None:
        if self._listened.get(fd) != events:
            self._listened[fd] = events
            self._poll.register(fd, events)

    def _serve(self, fd: int) -> None:
        if fd == self._channel.fd:
            self._channel.flush()
            for message in self._channel.receive():
                self._obey(message)
            if self._channel.is_closed:
                raise EOFError("the runner is gone")
        else:
            self._read(fd)

    def _obey(self, message: Any) -> None:
        if isinstance(message, Cancel) and message.job_id == self._outflow.job_id and not self._ended.stopped:
            self._stop("cancelled")

    def _wait_ms(self) -> float:
        at = self._kill_at if self._kill_at is not None else self._deadline.at
        if at is None:
            return _REAP_EVERY_MS
        return min(_REAP_EVERY_MS, max(0.0, at - time.monotonic()) * 1000)

    def _keep_time(self) -> None:
        now = time.monotonic()
        if self._kill_at is not None:
            if now >= self._kill_at:
                self._kill_at = None
                self._deadline.at = None
                with suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)
        elif self._deadline.at is not None and now >= self._deadline.at and not self._ended.stopped:
            self._stop("timeout")

    def _stop(self, why: Stopped) -> None:
        """Asks all processes of the job to end, and leaves them the grace to do so."""
        self._ended.stopped = why
        self._kill_at = time.monotonic() + self._deadline.grace_s
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGTERM)

    def _reap(self, which: int) -> None:
        """Waits for what has ended already: the child (`which` is its pid), or whatever there is (-1)."""
        while not self._has_ended:
            pid, status, usage = os.wait4(which, os.WNOHANG)
            if pid == 0:
                return
            _count(self._ended, usage)
            if pid == self._pid:
                self._has_ended = True
                self._ended.status = exit_status(status)

    def _read(self, fd: int) -> bool:
        """Passes on what `fd` holds; False when it holds nothing."""
        try:
            data = os.read(fd, _PIPE_BYTES)
        except BlockingIOError:
            return False
        if fd == self._output_fd:
            self._outflow.pass_on(data)
        else:
            self._take_frames(data)
        return True

    def _take_frames(self, data: bytes) -> None:
        """Takes complete frames out of what has come. One that is too long is the last one listened to."""
        if self._ended.answer.kind == GARBLED:
            return
        self._frames += data
        while len(self._frames) >= FRAME_HEADER.size:
            kind, size = FRAME_HEADER.unpack_from(self._frames)
            if size > _ANSWER_LIMIT_BYTES:
                self._ended.answer = Answer(GARBLED)
                return
            end = FRAME_HEADER.size + size
            if len(self._frames) < end:
                return
            body = bytes(self._frames[FRAME_HEADER.size : end])
            del self._frames[:end]
            if kind == MESSAGE:
                self._channel.send(Message(self._outflow.job_id, body))
            elif not self._ended.answer.kind:
                self._ended.answer = Answer(kind, body)


def _count(ended: Ended, usage: Any) -> None:
    ended.cpu_s += usage.ru_utime + usage.ru_stime
    ended.peak_bytes = max(ended.peak_bytes, usage.ru_maxrss * 1024)
