"""A command that a box server has started: waited for, signalled, fed, and what it changed."""

from __future__ import annotations

import os
import select
import socket
import time

from jubako.boxes.commands.report import explain_execution, raise_reported, read_report
from jubako.boxes.commands.result import BoxResult
from jubako.boxes.keeping.changes import read_box_changes
from jubako.boxes.serving.messages import ENDED, ERROR, EXCEEDED, GONE, KEEP, SIGNAL, USAGE, Refused, Started, receive
from jubako.boxes.serving.pipes import exchange
from jubako.boxes.views.bound_files import drop_untouched_files
from jubako.errors import HostError
from jubako.kernel.signals import signal
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import IO, Self

    from jubako.boxes.resources.usage import Usage
    from jubako.boxes.state import StateRoot

__all__ = ["BoxProcess"]

_PACKET_BYTES = 1 << 16
_LOST_HINT = "Nothing of what it did is left. Run it again."
_LOST = "the box server ended while the command ran, and its box with it"


class BoxProcess:
    """A command that was started in a box. `stdin`, `stdout` and `stderr` are this end of the pipes asked for.

    Use it with `with`, or call `close`: then the box is ended if the command still runs.
    """

    def __init__(
        self,
        argv: tuple[str, ...],
        state: StateRoot,
        answer: socket.socket,
        pipes: tuple[IO[bytes] | None, IO[bytes] | None, IO[bytes] | None],
    ) -> None:
        self.argv = argv
        self.stdin, self.stdout, self.stderr = pipes
        self._state = state
        self._answer = answer
        self._started: Started | None = None
        self._facts: list[tuple[str, str]] = []
        self._status: int | None = None
        self._result: BoxResult | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """A descriptor for `select` and event loops: call `poll` when it is readable, until that says the status."""
        return self._answer.fileno()

    def poll(self) -> int | None:
        """The command's exit status, None while it runs. Raises as `wait`."""
        return self.wait(0)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Waits for the end of the command and of all it started: its exit status, None if `timeout_s` ran out.

        Raises what `run_in_box` raises where there is no box, HostError if the server was killed.
        """
        ends = None if timeout_s is None else time.monotonic() + max(0.0, timeout_s)
        poll = select.poll()
        poll.register(self._answer, select.POLLIN)
        while self._status is None:
            if not poll.poll(None if ends is None else max(0.0, ends - time.monotonic()) * 1000):
                return None
            self._receive()
        return self._status

    async def wait_async(self) -> int:
        """As `wait`, for asyncio, without an end."""
        from jubako.boxes.serving.waiting import get_running_loop  # asyncio, which who calls this has imported

        loop = get_running_loop()
        ended = loop.create_future()

        def look() -> None:
            try:
                if self.poll() is not None and not ended.done():
                    ended.set_result(None)
            except Exception as error:  # noqa: BLE001  for who waits, not for the loop
                if not ended.done():
                    ended.set_exception(error)

        loop.add_reader(self._answer, look)
        try:
            await ended
        finally:
            loop.remove_reader(self._answer)
        assert self._status is not None
        return self._status

    def communicate(self, data: bytes = b"", timeout_s: float | None = None) -> tuple[bytes, bytes]:
        """Writes `data` to the command's stdin and reads stdout and stderr to their ends, as far as they are pipes.

        TimeoutError if that takes longer than `timeout_s`; the command runs on.
        """
        return exchange(self.stdin, self.stdout, self.stderr, data, timeout_s)

    def send_signal(self, number: int) -> None:
        """Sends the command a signal; SIGKILL ends everything in the box."""
        if self._status is None:
            try:
                self._answer.send(SIGNAL + str(int(number)).encode())
            except OSError:  # the server is gone, and the box with it
                return

    def terminate(self) -> None:
        """Asks the command to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends everything in the box."""
        self.send_signal(signal.SIGKILL)

    def result(self) -> BoxResult:
        """Waits for the end; what the command changed, to be committed, kept, or dropped by closing the result."""
        if self._result is None:
            status = self.wait()
            assert status is not None
            assert self._started is not None
            found = self._started.record
            drop_untouched_files(self._started.copies)
            usage = dict(self._facts).get(USAGE, "") if self._started.is_supervised else ""
            self._result = BoxResult(
                exit_status=status,
                changes=read_box_changes(os.path.join(self._state.boxes_path, found.id), found),
                error=dict(self._facts).get(ERROR, "") or explain_execution(self._facts, self.argv[0]),
                notes=tuple(value for key, value in self._facts if key == "note"),
                exceeded=tuple(value for key, value in self._facts if key == EXCEEDED and usage),
                usage=_parse_usage(usage) if usage else None,
                state=self._state,
                record=found,
                hold=_ServerHold(self._answer),
            )
        return self._result

    def close(self) -> None:
        """Closes the pipes, and the box where nobody has taken its result: it is ended if it still runs. Idempotent."""
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:  # the command has not read all of its input
                    continue
        if self._result is None:
            self._answer.close()

    def _receive(self) -> None:
        """Takes in one message. Raises the error that it tells of, if it does."""
        try:
            if self._started is None:
                message, _ = receive(self._answer)
                if isinstance(message, Refused):
                    raise_reported(message.facts)
                self._started = message
                self._facts += message.facts
                return
            data = self._answer.recv(_PACKET_BYTES)
        except (EOFError, ConnectionError) as error:
            raise HostError(_LOST, hint=_LOST_HINT) from error
        if not data:
            raise HostError(_LOST, hint=_LOST_HINT)
        said = read_report(data)
        self._facts += said
        for key, value in said:
            if key in (ENDED, GONE) and value.isdecimal():
                raise_reported(self._facts)
                self._status = int(value)
                return


def _parse_usage(text: str) -> Usage:
    import json  # 2 ms to import, for boxes with limits

    from jubako.boxes.resources.usage import Usage

    return Usage(**json.loads(text))


@record
class _ServerHold:
    """A box that the server holds as long as this end of the answer socket is open."""

    answer: socket.socket

    def let_go(self, _directory: str, *, is_kept: bool) -> None:
        """Lets the server remove the box, or waits until it has let go of a kept one."""
        with self.answer:
            if is_kept:
                self.answer.send(KEEP)
                while self.answer.recv(_PACKET_BYTES) not in (KEEP, b""):  # the word that its mounts are gone, first
                    continue
