"""A process per task, without a box: forked from this one, so the pipeline is loaded already.

Children die with this process, are alone in a session, and print into a pipe. A time limit or a cancel ends a child
and all it has started: TERM, a grace time, KILL. What a task does to the memory of its process is lost; what it yields
comes back as references and it is run again from the top when that is done.

    parent <── frames ─── child      b"S" something said, b"D" how it ended (pickles)
    parent <── output ─── child and all it starts
"""

from __future__ import annotations

import fcntl
import os
import pickle
import random
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from jubako.boxes.inside import FRAME_HEADER, write_frame
from jubako.errors import InputError
from jubako.flow.executors.executor import Ended, ExecutorEvent, Order, Printed, Said
from jubako.flow.executors.performing import IsDone, call_after_publish, perform
from jubako.flow.run_rules import OUR_RULES, RunRules
from jubako.flow.tasks.task_reference import dump_references, load_references
from jubako.kernel.children import exit_status, fork_child
from jubako.kernel.process import pidfd_open
from jubako.kernel.process_tree import signal_tree
from jubako.records import field, record

__all__ = ["ForkedExecutor"]

_SAID: Final = b"S"
_DONE: Final = b"D"
_GRACE_S: Final = 5.0
_READ: Final = 1 << 16
_DOING: Final = {"run": "run()", "after_publish": "after_publish()", "upload": "sending its outputs"}


class _Pipe:
    """The read end of a pipe. `fd` is -1 once the last writer has gone: such an end would read as "ready" for ever."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd

    def read(self) -> bytes:
        """What is in it now."""
        chunks = []
        with suppress(BlockingIOError):
            while self.fd >= 0:
                chunks.append(os.read(self.fd, _READ))
                if not chunks[-1]:
                    self.close()
        return b"".join(chunks)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@record(frozen=False)
class _Child:
    order: Order
    pid: int
    pidfd: int
    frames: _Pipe
    output: _Pipe
    began_s: float
    received: bytearray = field(default_factory=bytearray)
    ending: str = ""  # "timeout" or "cancelled" once it was asked to end
    kill_s: float | None = None  # when it is killed

    @property
    def descriptors(self) -> list[int]:
        return [fd for fd in (self.pidfd, self.frames.fd, self.output.fd) if fd >= 0]

    def close(self) -> None:
        os.close(self.pidfd)
        self.frames.close()
        self.output.close()


class ForkedExecutor:
    """Forks a child for every order. `hidden` is a directory whose open descriptors children must not keep."""

    def __init__(
        self, is_done: IsDone, *, hidden: str = "", grace_s: float = _GRACE_S, rules: RunRules = OUR_RULES
    ) -> None:
        self._is_done = is_done
        self._rules = rules
        self._hidden = hidden
        self._grace_s = grace_s
        self._children: dict[str, _Child] = {}
        self._events: list[ExecutorEvent] = []

    @property
    def is_ready(self) -> bool:
        return bool(self._events)

    @property
    def due_s(self) -> float | None:
        moments = [moment for child in self._children.values() if (moment := _due(child)) is not None]
        return min(moments, default=None)

    def start(self, order: Order) -> None:
        frames_read, frames_write = _open_pipe()
        output_read, output_write = _open_pipe()
        theirs = (frames_write, output_write)
        try:
            unwanted = [frames_read, output_read, *self.filenos(), *_descriptors_below(self._hidden)]
            pid = fork_child(lambda: self._run_child(order, theirs, unwanted))
        except BaseException:
            os.close(frames_read)
            os.close(output_read)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        pipes = (_Pipe(frames_read), _Pipe(output_read))
        self._children[order.attempt_id] = _Child(order, pid, pidfd_open(pid), *pipes, time.monotonic())

    def poll(self) -> Sequence[ExecutorEvent]:
        now_s = time.monotonic()
        for child in list(self._children.values()):
            self._watch(child, now_s)
        events, self._events = self._events, []
        return events

    def filenos(self) -> Sequence[int]:
        return [fd for child in self._children.values() for fd in child.descriptors]

    def cancel(self, attempt_id: str, *, kill: bool = False) -> None:
        child = self._children.get(attempt_id)
        if child is not None:
            self._end(child, child.ending or "cancelled", kill=kill)

    def close(self) -> None:
        for child in self._children.values():
            signal_tree(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            child.close()
        self._children.clear()

    def _watch(self, child: _Child, now_s: float) -> None:
        """Reads what a child has sent, keeps its time limits, and reaps it when it has ended."""
        ended, status, usage = os.wait4(child.pid, os.WNOHANG)
        self._read_output(child)
        child.received += child.frames.read()
        done = self._take_frames(child)
        if ended:
            del self._children[child.order.attempt_id]
            self._events.append(_describe_end(child, done, status, usage))
            child.close()
        elif done is not None:
            child.received[:0] = done  # its process is about to end; look at it again then
        elif (due_s := _due(child)) is not None and due_s <= now_s:
            self._end(child, child.ending or "timeout", kill=bool(child.ending))

    def _end(self, child: _Child, why: str, *, kill: bool) -> None:
        child.kill_s = None if kill else child.kill_s or time.monotonic() + self._grace_s
        child.ending = why
        signal_tree(child.pid, signal.SIGKILL if kill else signal.SIGTERM)

    def _read_output(self, child: _Child) -> None:
        data = child.output.read()
        if data:
            self._events.append(Printed(child.order.attempt_id, data))

    def _take_frames(self, child: _Child) -> bytes | None:
        """Passes on what was said; returns the whole frame of how it ended, if that has come."""
        received = child.received
        while len(received) >= FRAME_HEADER.size:
            kind, length = FRAME_HEADER.unpack_from(received)
            end = FRAME_HEADER.size + length
            if len(received) < end:
                return None
            frame = bytes(received[:end])
            del received[:end]
            if kind == _DONE:
                return frame
            what, value = pickle.loads(frame[FRAME_HEADER.size :])
            self._events.append(Said(child.order.attempt_id, what, value))
        return None

    def _run_child(self, order: Order, theirs: tuple[int, int], unwanted: Sequence[int]) -> int:
        """In the child."""
        frames_fd, output_fd = theirs
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        for fd in unwanted:
            os.close(fd)
        null_fd = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null_fd, 0), (output_fd, 1), (output_fd, 2)):
            os.dup2(source, target)
        os.closerange(output_fd, output_fd + 1)
        os.closerange(max(null_fd, 3), null_fd + 1)
        _reseed()
        # Whatever this process has put in their place (a notebook's, a test's), tasks print into the pipe, by lines.
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", 1, errors="backslashreplace", closefd=False) for fd in (1, 2))
        if order.action == "after_publish":
            done = call_after_publish(order.task)
        elif order.action == "upload":
            from jubako.flow.executors.uploading import upload  # few tasks have what it is for

            done = upload(order.uploads, self._rules.unmade_outputs)
        else:
            done = perform(
                order.task,
                is_done=self._is_done,
                say=lambda what, value: write_frame(frames_fd, _SAID, pickle.dumps((what, value))),
                rules=self._rules,
            )
        answer: tuple[str, str, str, bytes, Sequence[str]]
        answer = (done.outcome, done.error, done.traceback, b"", done.unmade)
        if done.suspended is not None:
            try:
                answer = ("needs", "", "", dump_references(done.suspended.requirements.flat_requirements), ())
            except InputError as error:
                answer = ("failed", error.message, traceback.format_exc(), b"", ())
        write_frame(frames_fd, _DONE, pickle.dumps(answer))
        return 0


def _describe_end(child: _Child, done: bytes | None, wait_status: int, usage: Any) -> Ended:
    """How an attempt ended whose process is gone."""
    figures = {
        "wall_s": time.monotonic() - child.began_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
    }
    attempt_id = child.order.attempt_id
    is_run = child.order.action == "run"
    if done is not None:  # also of one that was asked to end, and was faster
        outcome, error, text, required, unmade = pickle.loads(done[FRAME_HEADER.size :])
        tasks = load_references(required) if required else ()
        return Ended(
            attempt_id, outcome, error, text, requirements=tasks, unmade=unmade, handlers_called=is_run, **figures
        )
    if child.ending == "timeout":
        return Ended(attempt_id, "timeout", f"it ran longer than {child.order.timeout_s:g} s", **figures)
    if child.ending:
        return Ended(attempt_id, "cancelled", "it was interrupted", **figures)
    status = exit_status(wait_status)
    return Ended(
        attempt_id,
        "failed",
        f"its process {_describe_status(status)} in the middle of {_DOING[child.order.action]}",
        process_died=is_run,
        **figures,
    )


def _describe_status(status: int) -> str:
    if status <= 128:
        return f"exited with {status}"
    name = signal.Signals(status - 128).name if status - 128 in list(signal.Signals) else str(status - 128)
    return f"was killed by signal {name}"


def _due(child: _Child) -> float | None:
    if child.ending:
        return child.kill_s
    return None if child.order.timeout_s is None else child.began_s + child.order.timeout_s


def _open_pipe() -> tuple[int, int]:
    """A pipe whose ends are not 0, 1 or 2, even where this process was started with those closed."""
    ends = os.pipe2(os.O_CLOEXEC)
    moved = tuple(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in ends)
    for fd in ends:
        os.close(fd)
    return moved[0], moved[1]


def _descriptors_below(directory: str) -> list[int]:
    """Open descriptors of files below `directory`: locks and databases, which go with the process that opened them.

    A child that kept the run's lock would keep the run alive in the eyes of others after it was killed.
    """
    found = []
    if directory:
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}").startswith(directory + "/"):
                    found.append(int(name))
    return found


def _reseed() -> None:
    """Children forked from one process would all draw the same random numbers."""
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
