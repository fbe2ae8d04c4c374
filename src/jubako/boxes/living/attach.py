"""This process's terminal and signals, lent to a program in a box until that ends.

On a terminal of the box's, this one is raw: every key goes inside, also those that send signals, which the box's
terminal makes of them. It is put back whatever happens. Its size is the other's size, too, when it changes. Without
one, signals that are sent to this process are sent on, to the program's process group.
"""

from __future__ import annotations

import os
import select
import termios

from jubako.boxes.living.control import Gone
from jubako.boxes.living.terminal_size import copy_size
from jubako.kernel.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from jubako.boxes.living.program import Program

__all__ = ["attach"]

_SENT_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_CHUNK = 1 << 16
_END_OF_INPUT = b"\x04"
_KILLED = 128 + int(signal.SIGKILL)
# tcgetattr(3): indices into what it returns
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6


def attach(program: Program, *, stdin: int = 0, stdout: int = 1) -> int:
    """Waits for the program, which has a terminal of the box's or descriptors of this process; its exit status."""
    with _Signals(program) as signals:
        if program.terminal is None:
            return _wait(program, signals)
        with _Raw(stdin, stdout, program.terminal):
            return _Talk(program, program.terminal, signals, stdin, stdout).talk()


def _wait(program: Program, signals: _Signals) -> int:
    poll = select.poll()
    poll.register(program.line.socket, select.POLLIN)
    poll.register(signals.woken, select.POLLIN)
    while program.exit_status is None:
        for fd, _events in poll.poll():
            if fd == signals.woken:
                signals.send_on()
            else:
                _hear(program)
    return program.exit_status


def _hear(program: Program) -> None:
    """Takes in what pid 1 says; the end of the line is that of the box."""
    lives = program.line.read()
    while (frame := program.line.inbox.next()) is not None:
        program.take(frame)
    if not lives and program.exit_status is None:
        program.exit_status = _KILLED


class _Talk:
    """Carries what is typed inside, and what the program writes outside, without ever waiting for one of them alone."""

    def __init__(self, program: Program, master: int, signals: _Signals, stdin: int, stdout: int) -> None:
        self._program = program
        self._master = master
        self._signals = signals
        self._stdin = stdin
        self._stdout = stdout
        self._typed = b""
        self._reads_stdin = True
        self._is_open = True  # the program's side of the terminal

    def talk(self) -> int:
        os.set_blocking(self._master, False)
        while self._program.exit_status is None:
            poll = select.poll()
            poll.register(self._program.line.socket, select.POLLIN)
            poll.register(self._signals.woken, select.POLLIN)
            if self._is_open:
                poll.register(self._master, select.POLLIN | (select.POLLOUT if self._typed else 0))
            if self._reads_stdin and not self._typed:
                poll.register(self._stdin, select.POLLIN)
            for fd, events in poll.poll():
                if fd == self._signals.woken:
                    self._signals.send_on(self._stdin, self._master)
                elif fd == self._master:
                    self._serve_master(events)
                elif fd == self._stdin:
                    self._read_stdin()
                else:
                    _hear(self._program)
        while self._is_open and self._copy_out():  # what it wrote last
            pass
        return self._program.exit_status

    def _serve_master(self, events: int) -> None:
        if events & select.POLLOUT and self._typed:
            try:
                self._typed = self._typed[os.write(self._master, self._typed) :]
            except BlockingIOError:
                pass
            except OSError:  # nobody has it open any more
                self._typed = b""
        if events & ~select.POLLOUT and not self._copy_out() and events & select.POLLHUP:
            self._is_open = False

    def _copy_out(self) -> bool:
        """Writes what there is to be read; False if that is nothing."""
        try:
            data = os.read(self._master, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: no program has the terminal open any more
            self._is_open = False
            return False
        _write_all(self._stdout, data)
        return bool(data)

    def _read_stdin(self) -> None:
        try:
            self._typed = os.read(self._stdin, _CHUNK)
        except OSError:  # the terminal has hung up
            self._typed = b""
        if not self._typed:
            self._reads_stdin = False
            self._typed = _END_OF_INPUT


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:  # somebody has set our terminal so
            select.select([], [fd], [])


class _Signals:
    """Signals for the program, for the time of a `with` block: those ignored stay ignored (nohup)."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._before: dict[int, Any] = {}
        self._come: list[int] = []

    def __enter__(self) -> _Signals:
        self.woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._woke = signal.set_wakeup_fd(self._wake)
            for number in (*_SENT_ON, signal.SIGWINCH):
                handler = signal.getsignal(number)
                if handler is not signal.SIG_IGN:
                    self._before[number] = handler
                    signal.signal(number, self._hear)
        except ValueError:  # this is not the main thread: signals do what they did
            self._woke = -1
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            signal.set_wakeup_fd(self._woke)
        os.close(self.woken)
        os.close(self._wake)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self._come.append(number)

    def send_on(self, ours: int | None = None, master: int | None = None) -> None:
        """Sends on what has come; a change of size goes from terminal to terminal."""
        os.read(self.woken, 512)
        come, self._come = self._come, []
        for number in come:
            if number != signal.SIGWINCH:
                try:
                    self._program.send_signal(number)
                except Gone:
                    return
            elif ours is not None and master is not None:
                copy_size(ours, master)


class _Raw:
    """Our terminal raw and the box's as ours was, for the time of a `with` block; nothing, where ours is none."""

    def __init__(self, stdin: int, stdout: int, master: int) -> None:
        self._terminal = stdin if os.isatty(stdin) else None
        self._shown = stdin if os.isatty(stdin) else stdout
        self._master = master

    def __enter__(self) -> None:
        copy_size(self._shown, self._master)
        if self._terminal is None:
            return
        self._before = termios.tcgetattr(self._terminal)
        termios.tcsetattr(self._master, termios.TCSANOW, self._before)
        raw = termios.tcgetattr(self._terminal)
        raw[_IFLAG] &= ~(termios.BRKINT | termios.ICRNL | termios.INLCR | termios.INPCK | termios.ISTRIP | termios.IXON)
        raw[_OFLAG] &= ~termios.OPOST
        raw[_CFLAG] = raw[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        raw[_LFLAG] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        raw[_CC][termios.VMIN], raw[_CC][termios.VTIME] = 1, 0
        termios.tcsetattr(self._terminal, termios.TCSADRAIN, raw)

    def __exit__(self, *_error: object) -> None:
        if self._terminal is not None:
            try:
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._before)
            except termios.error:  # it has hung up
                return
