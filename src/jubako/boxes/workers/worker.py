"""The runner's end of a worker: a process that runs jobs in boxes, one at a time. Its processes: `supervisor`.

    worker = Worker.start("pipeline:load", b"...", state_root=..., hidden=[...])
    worker.submit(job)
    while ...:                      # when worker.fileno() is readable
        for event in worker.receive(): ...
    worker.close()

Nothing here waits but `close` and the sending of a job. A worker that dies answers for its job: the last event is then
`Finished` with outcome "host", and `is_alive` is false; start another one.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Literal, cast

from jubako.boxes.job import Finished, Job, JobEvent
from jubako.boxes.workers.wire import Cancel, Channel, Note, Ready, Setup
from jubako.errors import BugError, HostError
from jubako.home import HOME
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any, Self

__all__ = ["Worker", "WorkerState"]

_PATIENCE_S = 10.0  # a worker that was told to end does so in milliseconds

# The interpreter is told where this jubako is: the runner's own path may have been changed by hand. It gets the rest of
# that path with the setup, and -P keeps the working directory off: files beside a pipeline may be called as modules are
# that are imported here.
_START = (
    "import sys; sys.argv[2] in sys.path or sys.path.insert(0, sys.argv[2]); "
    "from jubako.boxes.workers.supervisor import main; main(int(sys.argv[1]))"
)


@record
class WorkerState:
    """What a worker said when it was ready, or why it never will be."""

    mode: Literal["fork", "fresh"]  # tasks are forked with the pipeline loaded, or each imports it
    view: Literal["root", "user namespace"]
    error: str = ""
    hint: str = ""
    traceback: str = ""


class Worker:
    """One worker process. Not thread-safe; give each thread its own."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        """Use `start`."""
        self._process = process
        self._connection = connection
        self._channel = Channel(connection.fileno())
        self._job: Job | None = None
        self._state: WorkerState | None = None
        self._notes: list[str] = []

    @classmethod
    def start(
        cls,
        preload: str = "",
        preload_argument: bytes = b"",
        *,
        hidden: Sequence[str] = (),
        scratch_root: str = "",
        cwd: str = "/",
    ) -> Self:
        """Starts a worker and returns at once; a job may be submitted right away, and waits.

        `preload` ("module:function", called with `preload_argument`) imports the pipeline, once if it can be forked
        with it. `hidden` are the directories of jubako's own state, the state root first. `scratch_root`, the run's
        staging directory in the state root, is where scratch="disk" and undeclared="publish" put their contents.
        """
        ours, theirs = socket.socketpair()
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, str(theirs.fileno()), HOME],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=2,  # what importing the pipeline prints must not be taken for the runner's output
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise HostError(f"a worker process cannot be started: {error}") from error
        finally:
            theirs.close()
        worker = cls(process, ours)
        worker._channel.send(
            Setup(
                preload=preload,
                preload_argument=preload_argument,
                sys_path=tuple(sys.path),
                cwd=cwd,
                hidden=tuple(hidden),
                scratch_root=scratch_root,
            )
        )
        worker._channel.flush_all()
        return worker

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process to look for; killing it ends all others of the worker."""
        return self._process.pid

    @property
    def state(self) -> WorkerState | None:
        """How the worker works, once it has said so."""
        return self._state

    @property
    def job(self) -> Job | None:
        """The job that runs or waits in the worker."""
        return self._job

    @property
    def is_alive(self) -> bool:
        """False once the worker has ended or can take no jobs."""
        return not self._channel.is_closed and not (self._state is not None and self._state.error)

    def fileno(self) -> int:
        """Readable when `receive` has something to do."""
        return self._connection.fileno()

    def submit(self, job: Job) -> None:
        """Gives the worker its next job; one at a time. BugError while it has one, HostError if it is dead."""
        if self._job is not None:
            raise BugError(f"{job.id} is submitted while {self._job.id} runs")
        if not self.is_alive:
            raise self._dead()
        self._job = job
        self._channel.send(job)
        self._channel.flush_all()  # a worker that died meanwhile is noticed by `receive`

    def cancel(self, job_id: str) -> None:
        """Ends that job, with its grace, if it still runs; it finishes as "cancelled" unless it was faster."""
        if self._job is not None and self._job.id == job_id:
            self._channel.send(Cancel(job_id))
            self._channel.flush_all()

    def receive(self) -> list[JobEvent]:
        """What has happened since; does not wait. Events of one job are in order, `Finished` the last."""
        events: list[JobEvent] = []
        for message in self._channel.receive():
            self._take(message, events)
        if self._job is not None and not self.is_alive:
            events.append(Finished(self._job.id, "host", error=str(self._dead())))
            self._job = None
        return events

    def take_notes(self) -> list[str]:
        """What the user should be told, each once: a degraded mode, a directory that is read-only in boxes."""
        notes, self._notes = self._notes, []
        return notes

    def wait_until_ready(self, timeout_s: float | None = None) -> WorkerState:
        """Waits until the worker can take jobs. Raises HostError if it never will; TimeoutError."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        while self._state is None and self.is_alive:
            if not poll.poll(None if timeout_s is None else timeout_s * 1000):
                raise TimeoutError(f"the worker was not ready after {timeout_s} s")
            events: list[JobEvent] = []
            for message in self._channel.receive():
                self._take(message, events)
            if events:
                raise BugError(f"the worker answered before it was ready: {events!r}")
        if self._state is None or self._state.error:
            raise self._dead()
        return self._state

    def close(self) -> None:
        """Ends the worker, and with it what it runs. When this returns, nothing of it lives. Repeatable."""
        with suppress(OSError):  # closed before, or the worker is dead
            self._connection.shutdown(socket.SHUT_RDWR)  # also for copies a fork of the runner may hold
        self._connection.close()
        self._channel.is_closed = True
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _take(self, message: Any, events: list[JobEvent]) -> None:
        match message:
            case Ready():
                self._state = WorkerState(
                    mode=cast(Literal["fork", "fresh"], message.mode or "fork"),
                    view=cast(Literal["root", "user namespace"], message.view or "root"),
                    error=message.error,
                    hint=message.hint,
                    traceback=message.traceback,
                )
            case Note():
                self._notes.append(message.text)
            case Finished():
                self._job = None
                events.append(message)
            case _:
                events.append(message)

    def _dead(self) -> HostError:
        """Why the worker is dead."""
        if self._state is not None and self._state.error:
            return HostError(self._state.error, hint=self._state.hint)
        try:
            status = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return HostError("the worker has closed its connection")
        ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return HostError(
            f"the worker process {ended}", hint="out of memory, or of processes? the task can be run again"
        )
