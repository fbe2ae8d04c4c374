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
import socket
import subprocess
import sys
import threading

from jubako.boxes.commands.first import Program
from jubako.boxes.commands.launch import check_keeping, check_program, commit_or_keep, fit_program, take_secrets
from jubako.boxes.commands.result import BoxResult
from jubako.boxes.keeping.kept import sweep_boxes
from jubako.boxes.nesting import refuse_nesting
from jubako.boxes.serving.messages import Request, send
from jubako.boxes.serving.pipes import Streams
from jubako.boxes.serving.process import BoxProcess
from jubako.boxes.spec import WHOLE_HOST
from jubako.boxes.state import default_state_root
from jubako.errors import InputError
from jubako.home import HOME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from jubako.boxes.serving.pipes import Stream
    from jubako.boxes.spec import Box
    from jubako.boxes.state import StateRoot

__all__ = ["BoxServer"]

_MAIN = (
    "import sys; sys.path.insert(0, sys.argv[1]); from jubako.boxes.serving import server; server.main(*sys.argv[2:])"
)


class BoxServer:
    """A process that makes boxes ahead, and runs commands in them. It is started by the first command.

    Boxes with limits, a private network, a user of their own, or for an init are not made ahead: a process of its own
    sees to each, forked by the server.

    `box` is how boxes are made where a command does not say otherwise, `state` the default state root. One that was
    killed is started anew by the next command. Where this machine has a C compiler, the first process of a box is
    `compiled`, once for a state root, which takes half a second then; with False it never is.
    """

    def __init__(self, box: Box = WHOLE_HOST, *, state: StateRoot | None = None, compiled: bool = True) -> None:
        self._box = box
        self._compiled = compiled
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
        if keep or commit:
            check_keeping(box or self._box)
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
        wanted, program = take_secrets(wanted, fit_program(program, wanted))
        request = Request(wanted, tuple(program.argv), program.cwd, dict(program.environment), root.path, program.user)
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
        program = ""
        if self._compiled:
            from jubako.boxes.serving.compiled import find_compiled_first  # with tempfile 20 ms, for who wants it

            program = find_compiled_first(root)
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _MAIN, HOME, str(theirs.fileno()), program],
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
