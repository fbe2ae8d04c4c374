"""The streams of a command that is started by another process: made, sent, fed and read to their ends."""

from __future__ import annotations

import os
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, TypeAlias

    Stream: TypeAlias = "int | IO[bytes] | IO[str] | None"

__all__ = ["Streams", "exchange"]

_CHUNK = 1 << 16


class Streams:
    """The command's descriptors, of which those made here are closed when they were sent, and our ends of its pipes."""

    def __init__(self, stdin: Stream, stdout: Stream, stderr: Stream) -> None:
        self._made: list[int] = []
        self._ours: list[IO[bytes] | None] = []
        theirs: list[int] = []
        try:
            for number, stream in enumerate((stdin, stdout, stderr)):
                theirs.append(theirs[1] if number == 2 and stream == subprocess.STDOUT else self._open(number, stream))
        except BaseException:
            self.close()
            raise
        self.theirs = (theirs[0], theirs[1], theirs[2])

    @property
    def ours(self) -> tuple[IO[bytes] | None, IO[bytes] | None, IO[bytes] | None]:
        return (self._ours[0], self._ours[1], self._ours[2] if len(self._ours) > 2 else None)

    def _open(self, number: int, stream: Stream) -> int:
        if stream == subprocess.PIPE:
            read_end, write_end = os.pipe()
            theirs, ours = (read_end, write_end) if number == 0 else (write_end, read_end)
            self._made.append(theirs)
            self._ours.append(os.fdopen(ours, "wb" if number == 0 else "rb"))
            return theirs
        self._ours.append(None)
        if stream == subprocess.DEVNULL:
            self._made.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
            return self._made[-1]
        if stream is None:
            return number
        return stream if isinstance(stream, int) else stream.fileno()

    def close_theirs(self) -> None:
        while self._made:
            os.close(self._made.pop())

    def close(self) -> None:
        self.close_theirs()
        for pipe in self._ours:
            if pipe is not None:
                pipe.close()


def exchange(
    stdin: IO[bytes] | None, stdout: IO[bytes] | None, stderr: IO[bytes] | None, data: bytes, timeout_s: float | None
) -> tuple[bytes, bytes]:
    """Writes `data` to `stdin` and closes it; what `stdout` and `stderr` give until their ends, b"" for None.

    TimeoutError after `timeout_s`; what was read by then is lost.
    """
    import selectors  # 4 ms to import, for who talks to a command through pipes

    ends = None if timeout_s is None else time.monotonic() + timeout_s
    read: dict[IO[bytes], list[bytes]] = {pipe: [] for pipe in (stdout, stderr) if pipe is not None}
    rest = memoryview(data)
    with selectors.DefaultSelector() as selector:
        if stdin is not None:
            os.set_blocking(stdin.fileno(), False)
            selector.register(stdin, selectors.EVENT_WRITE)
        for pipe, pieces in read.items():
            selector.register(pipe, selectors.EVENT_READ, pieces)
        while selector.get_map():
            left_s = None if ends is None else ends - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise TimeoutError(f"the command was not done after {timeout_s} s")
            for key, _ in selector.select(left_s):
                if key.fileobj is stdin:
                    try:
                        rest = rest[os.write(key.fd, rest[:_CHUNK]) :]
                    except BrokenPipeError:  # it does not want the rest
                        rest = rest[:0]
                    if not rest:
                        selector.unregister(stdin)
                        os.set_blocking(key.fd, True)
                        stdin.close()
                    continue
                piece = os.read(key.fd, _CHUNK)
                if piece:
                    key.data.append(piece)
                else:
                    selector.unregister(key.fileobj)
    return (b"".join(read.get(stdout, [])) if stdout else b"", b"".join(read.get(stderr, [])) if stderr else b"")
