"""A program that runs in a living box, seen from outside: its streams or its terminal, its signals, its end."""

from __future__ import annotations

import os

from jubako.boxes.living.control import Gone
from jubako.boxes.living.keeper import CommandNotStarted
from jubako.boxes.living.terminal_size import read_size
from jubako.kernel.signals import signal
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Any, BinaryIO, Self

    from jubako.boxes.commands.become import Identity
    from jubako.boxes.living.control import Line

__all__ = ["PIPE", "Ordered", "Program", "start_program"]

PIPE = -1  # as `subprocess` has it: a new pipe to or from the program
_CHUNK = 1 << 16
_KILLED = 128 + int(signal.SIGKILL)


@record
class Ordered:
    """What to start. `cwd` is a path in the box."""

    argv: Sequence[str]
    cwd: str
    environment: Mapping[str, str]
    umask: int = 0o022
    user: Identity | None = None  # who it is to be, in a box of root's


class Program:
    """A program in a box. Use it with `with`: a program that hasn't ended gets SIGHUP at the end of the block."""

    def __init__(self, line: Line, pid: int) -> None:
        self.pid = pid  # as the box counts
        self.line = line
        self.terminal: int | None = None  # the master of its terminal
        self.stdin: BinaryIO | None = None
        self.stdout: BinaryIO | None = None
        self.stderr: BinaryIO | None = None
        self.exit_status: int | None = None  # as a shell shows it, once it has ended

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def wait(self) -> int:
        """Waits for the program to end; its status as a shell shows it. 137 if the box was stopped meanwhile."""
        while self.exit_status is None:
            try:
                self.take(self.line.hear())
            except Gone:
                self.exit_status = _KILLED
        return self.exit_status

    def take(self, frame: Mapping[str, Any]) -> None:
        """Understands what pid 1 says about it."""
        if "exit" in frame:
            self.exit_status = int(frame["exit"])
            if frame.get("last"):
                self.line.wait_for_end()

    def send_signal(self, number: int) -> None:
        """Sends a signal to the program and its process group. Nothing happens once it has ended."""
        if self.exit_status is None:
            try:
                self.line.send({"signal": int(number)})
            except Gone:
                return

    def communicate(self, text: bytes = b"") -> tuple[bytes, bytes]:
        """Sends `text`, reads all that the program writes to its pipes, and waits for it: what it wrote to stdout and
        to stderr."""
        import selectors  # 2 ms to import, for those who use pipes

        written = {self.stdout: bytearray(), self.stderr: bytearray()}
        rest = memoryview(text)
        with selectors.DefaultSelector() as selector:
            if self.stdin is not None:
                os.set_blocking(self.stdin.fileno(), False)
                selector.register(self.stdin, selectors.EVENT_WRITE)
            for stream in (self.stdout, self.stderr):
                if stream is not None:
                    selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                for key, _events in selector.select():
                    if key.fileobj is self.stdin:
                        rest = _write(key.fd, rest)
                        is_done = not rest
                    else:
                        chunk = os.read(key.fd, _CHUNK)
                        written[key.fileobj] += chunk  # type: ignore[index]
                        is_done = not chunk
                    if is_done:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]
        self.wait()
        return bytes(written[self.stdout]), bytes(written[self.stderr])

    def close(self) -> None:
        """Closes the streams and the connection. Idempotent."""
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        if self.terminal is not None:
            os.close(self.terminal)
            self.terminal = None
        self.line.close()


def start_program(
    line: Line,
    ordered: Ordered,
    *,
    stdio: tuple[int, int, int] = (0, 1, 2),
    tty: bool = False,
    detach: bool = False,
) -> Program:
    """Starts a program by way of `line`, which becomes the program's.

    `stdio` are descriptors, or PIPE; with `tty` it has a new terminal of the box's instead. With `detach` it runs on
    alone. Raises CommandNotStarted if it cannot be executed, Gone if the box has ended.
    """
    ours: list[int | None] = [None, None, None]
    theirs: list[int] = []
    try:
        given = []
        for number, fd in enumerate(() if tty else stdio):
            if fd == PIPE:
                reads, writes = os.pipe()
                ours[number] = writes if number == 0 else reads
                theirs.append(reads if number == 0 else writes)
            given.append(theirs[-1] if fd == PIPE else fd)
        answer = line.ask(
            "spawn",
            given,
            argv=list(ordered.argv),
            environment=dict(ordered.environment),
            cwd=ordered.cwd,
            umask=ordered.umask,
            user=[] if ordered.user is None else [ordered.user.uid, ordered.user.gid, *ordered.user.groups],
            tty=tty,
            size=read_size(0) if tty else (0, 0),
            detach=detach,
        )
        if "error" in answer:
            raise CommandNotStarted(str(answer["error"]), int(answer["status"]))
        program = Program(line, int(answer["pid"]))
        if tty:
            program.terminal = line.take_fd()
    except BaseException:
        for end in ours:
            if end is not None:
                os.close(end)
        line.close()
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    if ours[0] is not None:
        program.stdin = os.fdopen(ours[0], "wb")
    if ours[1] is not None:
        program.stdout = os.fdopen(ours[1], "rb")
    if ours[2] is not None:
        program.stderr = os.fdopen(ours[2], "rb")
    return program


def _write(fd: int, rest: memoryview) -> memoryview:
    try:
        return rest[os.write(fd, rest) :] if rest else rest
    except BrokenPipeError:  # it doesn't read, or has ended
        return memoryview(b"")
