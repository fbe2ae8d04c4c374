"""Runs many commands in boxes, quickly: a small process of this program's own makes the boxes ahead.

    with BoxServer() as boxes:
        for test in tests:
            with boxes.run(["./run-test", test]) as result:
                print(test, result.exit_status, [change.path for change in result.changes])

What `run_in_box` does takes several milliseconds, and more the more memory this program has, since it forks. A server
is small, and has a box waiting. Differences: its commands have no controlling terminal and are in a session of their
own, so a Ctrl-C reaches this program alone; they have the umask and the limits that this program had when the server
was started, and nothing of its descriptors but those they are given.

Safe to be used from several threads. A forked child may use it too; the server ends when all have closed it or ended.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time

from jubako.boxes.commands.first import Program
from jubako.boxes.commands.launch import check_program, commit_or_keep
from jubako.boxes.commands.report import raise_reported, read_report
from jubako.boxes.commands.result import BoxResult
from jubako.boxes.keeping.changes import read_box_changes
from jubako.boxes.keeping.kept import sweep_boxes
from jubako.boxes.nesting import refuse_nesting
from jubako.boxes.serving.messages import ENDED, GONE, KEEP, SIGNAL, Refused, Request, Started, receive, send
from jubako.boxes.serving.pipes import Streams, exchange
from jubako.boxes.spec import WHOLE_HOST
from jubako.boxes.state import default_state_root
from jubako.boxes.views.bound_files import drop_untouched_files
from jubako.errors import HostError, InputError
from jubako.home import HOME
from jubako.kernel.signals import signal
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import IO, Self

    from jubako.boxes.serving.pipes import Stream
    from jubako.boxes.spec import Box
    from jubako.boxes.state import StateRoot

__all__ = ["BoxProcess", "BoxServer"]

_MAIN = "import sys; sys.path.insert(0, sys.argv[1]); from jubako.boxes.serving import server; server.main(sys.argv[2])"
_PACKET_BYTES = 1 << 16
_LOST_HINT = "Nothing of what it did is left. Run it again."
_LOST = "the box server ended while the command ran, and its box with it"


class BoxServer:
    """A process that makes boxes ahead, and runs commands in them. It is started by the first command.

    `box` is how boxes are made where a command does not say otherwise, `state` the default state root. One that was
    killed is started anew by the next command.
    """

    def __init__(self, box: Box = WHOLE_HOST, *, state: StateRoot | None = None) -> None:
        self._box = box
        self._state = state
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self,
        argv: Sequence[str],
        box: Box | None = None,
        *,
        keep: bool = False,
        commit: Sequence[str] = (),
        cwd: str | None = None,
        environment: Mapping[str, str] | None = None,
        stdio: tuple[int, int, int] = (0, 1, 2),
    ) -> BoxResult:
        """As `run_in_box`. If the wait is interrupted, the box is ended and dropped."""
        with self.popen(
            argv, box, cwd=cwd, environment=environment, stdin=stdio[0], stdout=stdio[1], stderr=stdio[2]
        ) as process:
            result = process.result()
        if keep:
            result.keep()
        return commit_or_keep(result, commit)

    async def run_async(
        self,
        argv: Sequence[str],
        box: Box | None = None,
        *,
        cwd: str | None = None,
        environment: Mapping[str, str] | None = None,
        stdio: tuple[int, int, int] = (0, 1, 2),
    ) -> BoxResult:
        """As `run`, for asyncio: other tasks go on while the command runs. If it is cancelled, the box is ended."""
        with self.popen(
            argv, box, cwd=cwd, environment=environment, stdin=stdio[0], stdout=stdio[1], stderr=stdio[2]
        ) as process:
            await process.wait_async()
            return process.result()

    def popen(
        self,
        argv: Sequence[str],
        box: Box | None = None,
        *,
        cwd: str | None = None,
        environment: Mapping[str, str] | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
    ) -> BoxProcess:
        """Starts `argv` in a box and does not wait for it.

        Streams are as for `subprocess.Popen`: None for this program's own, a descriptor, a file, `subprocess.PIPE`,
        `subprocess.DEVNULL`, and for stderr `subprocess.STDOUT`; pipes carry bytes.
        """
        refuse_nesting()
        root = self._state or default_state_root()
        where = os.getcwd() if cwd is None else os.path.abspath(cwd)
        program = Program(tuple(argv), where, dict(os.environ if environment is None else environment))
        wanted = box or self._box
        check_program(program, wanted)
        request = Request(wanted, tuple(program.argv), where, dict(program.environment), root.path)
        streams = Streams(stdin, stdout, stderr)
        try:
            answer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                try:
                    self._send(request, (theirs.fileno(), *streams.theirs), root)
                except BaseException:
                    answer.close()
                    raise
        except BaseException:
            streams.close()
            raise
        streams.close_theirs()
        return BoxProcess(request.argv, root, answer, streams.ours)

    def close(self) -> None:
        """Ends the server, and every box that still runs; waits until nothing of them is left. Idempotent."""
        with self._lock:
            self._is_closed = True
            self._stop()

    def _send(self, request: Request, fds: Sequence[int], root: StateRoot) -> None:
        with self._lock:
            if self._is_closed:
                raise InputError("this BoxServer was closed")
            if self._requests is None:
                self._start(root)
            assert self._requests is not None
            try:
                send(self._requests, request, fds)
            except (BrokenPipeError, ConnectionResetError):  # it was killed
                self._stop()
                self._start(root)
                send(self._requests, request, fds)

    def _start(self, root: StateRoot) -> None:
        sweep_boxes(root.boxes_path)
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _MAIN, HOME, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    def _stop(self) -> None:
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if self._process is not None:
            self._process.wait()
            self._process = None


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
        import asyncio  # 40 ms to import, and who calls this has done so

        loop = asyncio.get_running_loop()
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
            self._result = BoxResult(
                exit_status=status,
                changes=read_box_changes(os.path.join(self._state.boxes_path, found.id), found),
                error=dict(self._facts).get("exec", ""),
                notes=tuple(value for key, value in self._facts if key == "note"),
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
