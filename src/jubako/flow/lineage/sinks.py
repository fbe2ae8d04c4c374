"""Takes events, whole lines of JSON, to where they go, without ever holding up who has them.

To a file they are appended, many in one write, so that lines of several runs do not mix. To a collector they go by a
process of its own (`sending`), over a pipe that is never waited for: what the collector does not take in time is kept
here, up to a number, and beyond that dropped, counted and said.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
from collections import deque
from collections.abc import Mapping
from typing import Final, Protocol

from jubako.errors import HostError, InputError
from jubako.flow.clock import Clock
from jubako.flow.interrupts import Interrupts
from jubako.flow.isolated import isolated_python

__all__ = ["FileSink", "PostSink", "Sink"]

_AT_ONCE: Final = 200  # events
_OLD_S: Final = 1.0
_KEPT: Final = 10_000
_KEPT_BYTES: Final = 64 << 20
_PATIENCE_S: Final = 5.0  # after the run, with a collector that takes events
_LITTLE_S: Final = 0.5  # with one that does not
_PIECE_BYTES: Final = 65_536


class Sink(Protocol):
    """Where events go."""

    def take(self, line: bytes) -> None:
        """An event; at once, and without waiting."""

    def finish(self, interrupts: Interrupts) -> tuple[int, str]:
        """No more come: how many have not arrived, and why. A signal ends all waiting."""


class FileSink:
    """Appends to the file `path`. InputError or HostError if that cannot be."""

    def __init__(self, path: str, clock: Clock) -> None:
        if os.path.isdir(path):
            raise InputError(f"{path}, where lineage is to go, is a folder", hint="name a file, events.jsonl say")
        self._path = path
        self._clock = clock
        self._lines: list[bytes] = []
        self._lost = 0
        self._why = ""
        self._written_s = clock.monotonic_s()
        try:
            os.close(self._open())
        except OSError as error:
            raise HostError(f"lineage cannot go to {path}: {error.strerror}") from error

    def take(self, line: bytes) -> None:
        self._lines.append(line)
        if len(self._lines) >= _AT_ONCE or self._clock.monotonic_s() - self._written_s >= _OLD_S:
            self._write()

    def finish(self, interrupts: Interrupts) -> tuple[int, str]:
        self._write()
        return self._lost, self._why

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        self._written_s = self._clock.monotonic_s()
        if not lines:
            return
        try:
            self._append(b"".join(lines))
        except OSError as error:
            self._lost += len(lines)
            self._why = error.strerror or str(error)

    def _append(self, data: bytes) -> None:
        fd = self._open()
        try:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":  # a disk that was full has cut a line short
                data = b"\n" + data
            if os.write(fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)


class PostSink:
    """Posts to `url` by a process. HostError if it can't be started."""

    def __init__(self, url: str, api_key: str, clock: Clock, environ: Mapping[str, str]) -> None:
        self._clock = clock
        self._lines: deque[bytes] = deque()
        self._lines_bytes = 0
        self._taken = 0
        self._arrived = 0
        self._why = ""
        self._trouble_s: float | None = None  # since when nobody answers
        self._said = b""
        try:
            self._process = subprocess.Popen(
                isolated_python("jubako.flow.lineage.sending"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environ,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise HostError(f"the process that posts lineage cannot be started: {error.strerror}") from error
        assert self._process.stdin is not None  # both are pipes
        assert self._process.stdout is not None
        self._into, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._into.fileno(), False)
        os.set_blocking(self._out.fileno(), False)
        self._put(json.dumps({"url": url, "api_key": api_key}).encode() + b"\n")

    def take(self, line: bytes) -> None:
        self._taken += 1
        if len(self._lines) < _KEPT and self._lines_bytes + len(line) <= _KEPT_BYTES:
            self._put(line)
        elif not self._why:
            self._why = "the collector is too slow"
        self._pump()

    def finish(self, interrupts: Interrupts) -> tuple[int, str]:
        self._put(b"\n")
        began_s = self._clock.monotonic_s()
        while self._process.poll() is None and not interrupts.count:
            self._pump()
            until_s = began_s + _PATIENCE_S
            if self._trouble_s is not None:
                until_s = min(until_s, max(began_s, self._trouble_s) + _LITTLE_S)
            left_s = until_s - self._clock.monotonic_s()
            if left_s <= 0:
                break
            self._wait(left_s, interrupts)
        self._listen()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        self._into.close()
        self._out.close()
        lost = self._taken - self._arrived
        return lost, (self._why or "the collector is too slow") if lost else ""

    def _wait(self, left_s: float, interrupts: Interrupts) -> None:
        poll = select.poll()
        poll.register(interrupts.fileno(), select.POLLIN)
        poll.register(self._out.fileno(), select.POLLIN)
        if self._lines:
            poll.register(self._into.fileno(), select.POLLOUT)
        poll.poll(left_s * 1000 + 1)
        interrupts.drain()

    def _put(self, line: bytes) -> None:
        self._lines.append(line)
        self._lines_bytes += len(line)

    def _pump(self) -> None:
        """Gives the process what it takes, and hears what has become of it."""
        self._listen()
        while self._lines:
            line = self._lines[0]
            try:
                written = os.write(self._into.fileno(), line)
            except BlockingIOError:
                return
            except BrokenPipeError:  # it has died; nobody will take the rest
                self._why = self._why or "the process that posts lineage has died"
                self._lines.clear()
                self._lines_bytes = 0
                return
            self._lines_bytes -= written
            if written < len(line):
                self._lines[0] = line[written:]
            else:
                self._lines.popleft()

    def _listen(self) -> None:
        while True:
            try:
                piece = os.read(self._out.fileno(), _PIECE_BYTES)
            except BlockingIOError:
                return
            if not piece:
                return
            *lines, self._said = (self._said + piece).split(b"\n")
            for line in lines:
                if line == b"+":
                    self._arrived += 1
                    self._trouble_s = None
                    continue
                self._why = line[1:].decode("utf-8", "replace")
                if line.startswith(b"-"):  # one was refused
                    self._trouble_s = None
                elif self._trouble_s is None:
                    self._trouble_s = self._clock.monotonic_s()
