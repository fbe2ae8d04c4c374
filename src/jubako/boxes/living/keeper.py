"""The process that keeps a living box: parent of its pid 1, holder of its directory, writer of how it ended.

    whoever starts it ──detached──> keeper ──forks──> pid 1 of the box (server)

There is one for each box that runs, and no daemon. It ends when pid 1 has ended, and lets go of everything. Each is
killed when the one before it dies (`commands.supervise`), so a killed keeper leaves no process and no mount, and a
record that says "running" of a box that does not answer. The one who starts it learns through a pipe when the box is
ready, and what this machine did not allow; or what went wrong.
"""

from __future__ import annotations

import json
import os
import socket
import time

from jubako.boxes.commands.confine import NotStarted
from jubako.boxes.commands.first import Program
from jubako.boxes.commands.launch import run_in
from jubako.boxes.living import control
from jubako.boxes.living.living_record import LivingRecord, save_living
from jubako.boxes.living.server import Server
from jubako.boxes.living.spawning import NotStartable, Order
from jubako.boxes.views.bound_files import drop_untouched_files
from jubako.errors import BugError, HostError, InputError, JubakoError, WorkError
from jubako.kernel.detach import start_detached
from jubako.kernel.process import set_process_name
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.boxes.commands.make import NewBox
    from jubako.boxes.living.server import Lasting
    from jubako.boxes.resources.restrain import Restraint

__all__ = ["LOG_NAME", "CommandNotStarted", "Start", "open_log", "start_box"]

LOG_NAME = "log"
_CHUNK = 1 << 16
_ERRORS: dict[str, type[JubakoError]] = {kind.__name__: kind for kind in (BugError, InputError, HostError, NotStarted)}


class CommandNotStarted(WorkError):
    """A command that cannot be executed in its box; `exit_status` is what a shell would end with."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


@record
class Start:
    """What is to run in a box that is made, and how it is recorded."""

    made: NewBox
    living: LivingRecord
    main: Order | None = None
    lasting: Lasting = "stopped"  # how long the box lives when nobody stops it
    held: tuple[int, ...] = ()  # descriptors that the keeper holds as long as the box runs


def open_log(directory: str) -> int:
    """A descriptor of the box's log, which is written at its end."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(os.path.join(directory, LOG_NAME), flags, 0o600)


def start_box(start: Start) -> tuple[control.Line, tuple[str, ...]]:
    """Starts the box and waits until it answers; a connection to it, and what this machine did not allow, in words.

    A box that lasts as long as its errands lasts as long as that connection, too.

    The keeper has the box's lock from here on, and this process has let go of it, whatever happens. Raises what went
    wrong, CommandNotStarted for a main command that cannot be executed; the box doesn't run then.
    """
    directory = start.made.directory
    told, tell = os.pipe()
    try:
        try:
            listener = control.listen(directory)
            log = open_log(directory)
        except OSError as error:
            os.close(tell)
            raise HostError(f"box {start.living.name} cannot be started: {error}") from error
        line = control.connect(directory)  # the first one that pid 1 will take
        assert line is not None
        with listener:
            keep = (tell, log, listener.fileno(), start.made.lock, *start.held)
            try:
                start_detached(lambda: _keep(start, listener, log, tell), keep=keep)
            finally:
                os.close(tell)
                os.close(log)
        try:
            return line, _hear(told, start.living.name)
        except BaseException:
            line.close()
            raise
    finally:
        os.close(told)
        os.close(start.made.lock)


def _hear(told: int, name: str) -> tuple[str, ...]:
    """Waits for what the keeper says; the notes."""
    with os.fdopen(told, "rb", closefd=False) as pipe:
        line = pipe.readline()
    if not line.endswith(b"\n"):
        raise HostError(
            f"box {name} could not be started: the process that was to keep it has died",
            hint="Is memory short? The kernel's log (dmesg) says whether it killed it.",
        )
    said = json.loads(line)
    if "status" in said:
        raise CommandNotStarted(said["message"], said["status"])
    if "kind" in said:
        raise _ERRORS.get(said["kind"], HostError)(said["message"], hint=said["hint"])
    return tuple(said["notes"])


# --- in the keeper ---------------------------------------------------------------------------------------------------


def _keep(start: Start, listener: socket.socket, log: int, tell: int) -> int:
    """Runs the box until it ends, and records how; this is all that the keeper does."""
    made, living = start.made, start.living
    set_process_name(f"box-{living.name}")
    running = replace(living, keeper=os.getpid(), copies=made.copies)
    if start.lasting != "errands":  # else it is as it was, to who looks later
        running = replace(running, phase="running", started_ns=time.time_ns(), exit_status=None)
    try:
        save_living(made.directory, running)
        ending = _run(start, listener, log, tell)
    except BaseException as error:  # noqa: BLE001  told to the one who waits, who raises it
        _tell(tell, _describe(error))
        ending = {"phase": living.phase, "status": living.exit_status}
    drop_untouched_files(made.copies)
    control.forget(made.directory)
    ended = running
    if start.lasting != "errands":
        ended = replace(running, phase=ending["phase"], exit_status=ending["status"], ended_ns=time.time_ns())
        ended = replace(ended, exceeded=tuple(ending.get("exceeded", ())))
    save_living(made.directory, replace(ended, keeper=0, copies={}))
    return 0


def _run(start: Start, listener: socket.socket, log: int, tell: int) -> dict[str, Any]:
    """How the box ended: what pid 1 wrote before it did, or "killed"."""
    made = start.made
    heard, say = os.pipe()
    notes: list[str] = [] if made.limited is None else list(made.limited.plan.notes)
    # A connection is refused as soon as pid 1 is no more, which alone has the listener.
    held = (*made.confinement.held_descriptors, log, tell, say)

    def inside(_program: Program, restraint: Restraint | None) -> int:
        server = Server(socket.socket(fileno=listener.detach()), start.lasting, restraint)
        try:
            if start.main is not None:
                null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                server.start_main(start.main, (null, log, log))
                os.close(null)
        except NotStartable as error:
            _tell(tell, {"message": str(error), "status": error.status})
            _tell(say, {"phase": "exited", "status": error.status})
            return error.status
        os.close(log)
        _tell(tell, {"notes": notes})
        os.close(tell)
        server.serve()
        phase, status = server.ending
        _tell(say, {"phase": phase, "status": status})
        return 0

    try:
        program = Program(("box",), "/", {}, inside=inside, handed=(listener.fileno(),))
        confinement = replace(made.confinement, held_descriptors=held)
        ended = run_in(replace(made, confinement=confinement), program, notes.extend)
    finally:
        os.close(say)
        with os.fdopen(heard, "rb") as pipe:
            said = pipe.read()
    ending = json.loads(said) if said else {"phase": "killed", "status": None}
    return ending | ({"exceeded": made.limited.describe(ended)} if made.limited is not None else {})


def _tell(fd: int, facts: dict[str, Any]) -> None:
    try:
        os.write(fd, json.dumps(facts).encode("ascii") + b"\n")
    except BrokenPipeError:  # nobody waits any more
        return


def _describe(error: BaseException) -> dict[str, Any]:
    if isinstance(error, JubakoError):
        kind = next((name for name, kind in _ERRORS.items() if type(error) is kind), "HostError")
        return {"kind": kind, "message": error.message, "hint": error.hint}
    if isinstance(error, OSError):
        return {"kind": "HostError", "message": f"the box cannot be started: {error}", "hint": ""}
    return {"kind": "BugError", "message": f"{type(error).__name__}: {error}", "hint": ""}
