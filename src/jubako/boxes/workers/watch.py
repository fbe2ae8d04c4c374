"""The foreman's side of one child: its command, what it says and prints, its time, until all it started is dead.

The child is the zygote's; the zygote says when it has ended and everything else in the pid namespace is killed. While
it runs, its output and its frames are passed on, and the runner is listened to.
"""

from __future__ import annotations

import os
import select
import signal
import time

from jubako.boxes.inside import FRAME_HEADER, MESSAGE
from jubako.boxes.job import Message, Printed
from jubako.boxes.workers.child import Call, format_call
from jubako.boxes.workers.errand import NOTICE_BYTES, ZygoteGone
from jubako.boxes.workers.wire import Cancel, Channel
from jubako.boxes.workers.zygote import DONE_FIELDS, SIGNAL_FIELDS
from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypeAlias

    from jubako.boxes.resources.usage import Stopped as Exhausted
    from jubako.boxes.workers.errand import Errand

__all__ = ["GARBLED", "Answer", "Deadline", "Ended", "Outflow", "watch"]

Stopped: TypeAlias = "Literal['', 'timeout', 'cancelled']"

GARBLED = b"?"  # a frame that our code did not write, or that is too long

_READ_BYTES = 1 << 16
_UNSENT_LIMIT_BYTES = 1 << 20  # beyond it a task that prints waits for the runner to read
_ANSWER_LIMIT_BYTES = 1 << 28


@record
class Outflow:
    """What a job printed, on its way to the runner, which decides how much of it is kept."""

    job_id: str
    channel: Channel

    def pass_on(self, data: bytes) -> None:
        self.channel.send(Printed(self.job_id, data))


@record(frozen=False)
class Deadline:
    """When a job's time is over; shared by its call and its check."""

    at: float | None  # time.monotonic
    grace_s: float
    look: Callable[[], tuple[Exhausted, float]] | None = None  # what is used up, and how long that holds
    look_at: float = 0.0  # when to look next


@record(frozen=False)
class Answer:
    """What a child said through its frames."""

    kind: bytes = b""  # child.REPORT, FAILURE or REJECTED, or GARBLED; empty if it ended without a word
    data: bytes = b""


@record(frozen=False)
class Ended:
    """How a child ended, with all it started."""

    status: int = 0  # as a shell shows it
    answer: Answer = field(default_factory=Answer)
    stopped: Stopped = ""
    exhausted: Exhausted = ""  # what was used up, so that all of it was killed
    cpu_s: float = 0.0
    peak_bytes: int = 0


def watch(errand: Errand, call: Call, outflow: Outflow, deadline: Deadline) -> Ended:
    """Has the errand's child do `call`, and waits until nothing of it lives. Ends the errand.

    Raises ZygoteGone, and EOFError when the runner is gone.
    """
    try:
        return _Watch(errand, outflow, deadline).run(format_call(call))
    finally:
        errand.close()


class _Watch:
    def __init__(self, errand: Errand, outflow: Outflow, deadline: Deadline) -> None:
        self._line_fd = errand.line.fileno()
        self._output_fd = errand.output_fd
        self._zygote = errand.zygote
        self._control_fd = self._zygote.links.control.fileno()
        self._outflow = outflow
        self._channel = outflow.channel
        self._deadline = deadline
        self._kill_at: float | None = None
        self._ended = Ended()
        self._has_ended = False
        self._unsent = memoryview(b"")
        self._frames = bytearray()
        self._notices = bytearray()
        self._poll = select.poll()
        self._listened: dict[int, int] = {}
        os.set_blocking(self._line_fd, False)
        os.set_blocking(self._output_fd, False)

    def run(self, command: bytes) -> Ended:
        self._unsent = memoryview(command)
        self._write_line()
        self._listen(self._control_fd, select.POLLIN)
        self._listen(self._channel.fd, select.POLLIN)
        self._listen(self._line_fd, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        self._listen(self._output_fd, select.POLLIN)
        while not self._has_ended:
            for fd, _ in self._poll.poll(self._wait_ms()):
                self._serve(fd)
            self._keep_time()
        return self._ended

    def _serve(self, fd: int) -> None:
        if fd == self._output_fd:
            self._read(fd)
        elif fd == self._line_fd:
            self._write_line()
            self._read(fd)
        elif fd == self._control_fd:
            self._read_notices()
        else:
            self._channel.flush()
            for message in self._channel.receive():
                self._obey(message)
            if self._channel.is_closed:
                raise EOFError("the runner is gone")
        unsent = self._channel.unsent_bytes
        if unsent or self._listened[self._channel.fd] != select.POLLIN:
            # A runner that does not read what was printed makes the task wait, and nothing else.
            self._listen(self._channel.fd, select.POLLIN | (select.POLLOUT if unsent else 0))
            self._listen(self._output_fd, select.POLLIN if unsent < _UNSENT_LIMIT_BYTES else 0)

    def _listen(self, fd: int, events: int) -> None:
        if self._listened.get(fd) != events:
            self._poll.register(fd, events)
            self._listened[fd] = events

    def _read(self, fd: int) -> bool:
        """Passes on what `fd` holds; False when it holds nothing."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if fd == self._output_fd:
            self._outflow.pass_on(data)
        else:
            self._take_frames(data)
        return True

    def _write_line(self) -> None:
        """Sends what is left of the command, as far as the line takes it."""
        while self._unsent:
            try:
                sent = os.write(self._line_fd, self._unsent)
            except BlockingIOError:
                return
            self._unsent = self._unsent[sent:]
        if self._line_fd in self._listened:
            self._listen(self._line_fd, select.POLLIN)

    def _read_notices(self) -> None:
        """What the zygote says: that a child has ended; perhaps one that had no command, and the next has ours."""
        data = os.read(self._control_fd, _READ_BYTES)
        if not data:
            raise ZygoteGone("it has ended")
        self._notices += data
        while len(self._notices) >= NOTICE_BYTES:
            took, status, cpu_s, peak_bytes = DONE_FIELDS.unpack_from(self._notices, FRAME_HEADER.size)
            del self._notices[:NOTICE_BYTES]
            self._zygote.command += took
            if took:
                # Nobody lives who could write to them, so what the pipes hold now is all there will be.
                for fd in (self._line_fd, self._output_fd):
                    while self._read(fd):
                        pass
                self._has_ended = True
                self._ended.status, self._ended.cpu_s, self._ended.peak_bytes = status, cpu_s, peak_bytes

    def _obey(self, message: Any) -> None:
        if isinstance(message, Cancel) and message.job_id == self._outflow.job_id and not self._ended.stopped:
            self._stop("cancelled")

    def _wait_ms(self) -> float | None:
        at = self._kill_at if self._kill_at is not None else self._deadline.at
        if self._deadline.look is not None and self._deadline.look_at != float("inf"):
            at = self._deadline.look_at if at is None else min(at, self._deadline.look_at)
        return None if at is None else max(0.0, at - time.monotonic()) * 1000

    def _look(self) -> None:
        """Ends the job if a limit is met that only looking finds."""
        deadline = self._deadline
        if deadline.look is None or time.monotonic() < deadline.look_at or self._has_ended:
            return
        exhausted, holds_s = deadline.look()
        deadline.look_at = time.monotonic() + holds_s
        if exhausted and not self._ended.exhausted:
            self._ended.exhausted = exhausted
            self._signal(signal.SIGKILL)

    def _keep_time(self) -> None:
        self._look()
        if self._kill_at is None and self._deadline.at is None:
            return
        now = time.monotonic()
        if self._kill_at is not None:
            if now >= self._kill_at:
                self._kill_at = None
                self._deadline.at = None
                self._signal(signal.SIGKILL)
        elif self._deadline.at is not None and now >= self._deadline.at:
            self._stop("timeout")

    def _stop(self, why: Stopped) -> None:
        """Asks all processes of the job to end, and leaves them the grace to do so."""
        self._ended.stopped = why
        self._kill_at = time.monotonic() + self._deadline.grace_s
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        os.write(self._control_fd, SIGNAL_FIELDS.pack(number, self._zygote.command))

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
