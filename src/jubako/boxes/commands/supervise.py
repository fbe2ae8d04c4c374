"""A command in namespaces of its own: started, passed the signals meant for it, waited for, and nothing left behind.

    caller ──fork──> (outer ──fork──>) first ──spawn──> command
                     only without root:  pid 1 of the
                     enters a user       new namespace:
                     namespace           makes the view,
                                         gives up rights

Each waits for the next and ends with its status. Each is killed when the one before it dies, and the end of pid 1 kills
whatever the command left running; so a `kill -9` anywhere leaves no process, and with the last process the mounts go.
What goes wrong on the way comes back to the caller through a pipe. Signals go the way `relay` says.
"""

from __future__ import annotations

import errno
import gc
import os

from jubako.boxes.commands.confine import NotStarted, enter_namespaces, enter_or_explain, give_up_rights
from jubako.boxes.commands.relay import Foreground, Relay
from jubako.errors import BugError, ConflictError, HostError, InputError, JubakoError, WorkError
from jubako.kernel import namespaces
from jubako.kernel.children import close_descriptors_from, fork_child, reap_until, wait_for
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.process import set_pdeathsig
from jubako.kernel.signals import signal
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from jubako.boxes.commands.confine import Confinement

__all__ = ["Ended", "Program", "run_confined"]

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # as shells say it
_SETUP_FAILED = 125
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_ERRORS: dict[str, type[JubakoError]] = {
    kind.__name__: kind for kind in (BugError, ConflictError, HostError, InputError, WorkError)
}
_STARTED = "started"

MakeView: TypeAlias = "Callable[[], Sequence[str]]"


@record
class Program:
    """What to execute. `argv[0]` is looked up in the PATH of `environment`; `cwd` is a path inside the view."""

    argv: Sequence[str]
    cwd: str
    environment: Mapping[str, str]
    stdio: tuple[int, int, int] = (0, 1, 2)


@record
class Ended:
    """How the command ended."""

    exit_status: int  # as a shell shows it
    error: str = ""  # why it could not be executed
    notes: tuple[str, ...] = ()  # what `make_view` said


def run_confined(program: Program, confinement: Confinement, make_view: MakeView) -> Ended:
    """Runs `program` and waits for its end; `make_view` is called in the new namespaces, as pid 1, to mount its view,
    and says what that view lacks.

    Raises what `make_view` raises, a HostError as NotStarted, and NotStarted if the namespaces cannot be made. When it
    returns or raises, no process of the box is left.
    """
    read_end, write_end = os.pipe()
    try:
        with Relay() as relay, Foreground():
            try:
                if confinement.user_namespace:
                    relay.child = fork_child(lambda: _outer(program, confinement, make_view, write_end))
                else:
                    relay.child = _fork_first(lambda: _first(program, confinement, make_view, write_end))
            finally:
                os.close(write_end)
            status = wait_for(relay.child)
        with os.fdopen(read_end, "rb", closefd=False) as pipe:
            report = _read_report(pipe.read())
    finally:
        os.close(read_end)
    facts = dict(report)
    if "kind" in facts:
        kind = _ERRORS.get(facts["kind"], BugError)
        if kind is HostError and _STARTED not in facts:
            kind = NotStarted
        raise kind(facts.get("message", ""), hint=facts.get("hint", ""))
    return Ended(status, facts.get("exec", ""), tuple(value for key, value in report if key == "note"))


def _fork_first(run: Callable[[], int]) -> int:
    """Forks the pid 1 of a new pid namespace straight from the caller, whose own later children are not touched."""
    own = namespaces.open_namespace("pid_for_children", "thread-self")
    try:
        enter_or_explain(namespaces.CLONE_NEWPID, namespaces.unshare)
        try:
            return fork_child(run)
        finally:
            namespaces.setns(own, namespaces.CLONE_NEWPID)
    finally:
        os.close(own)


def _outer(program: Program, confinement: Confinement, make_view: MakeView, report: int) -> int:
    """Enters a user namespace, where this user may make the others; its child is the first of a new pid namespace."""
    with _Reporting(report):
        caller = os.getppid()
        enter_or_explain(namespaces.CLONE_NEWPID, enter_user_namespace)
        set_pdeathsig()  # a new user namespace made the kernel forget it
        if os.getppid() != caller:
            os._exit(_SETUP_FAILED)  # the caller died in between; nobody waits
        with Relay() as relay:
            relay.child = fork_child(lambda: _first(program, confinement, make_view, report))
            close_descriptors_from(0)
            return wait_for(relay.child)


def _first(program: Program, confinement: Confinement, make_view: MakeView, report: int) -> int:
    """Makes the view, gives up what the command must not have, and reaps: the pid 1 of the box."""
    gc.disable()  # a collection here would copy every page the caller's objects are on
    with _Reporting(report), Relay() as relay:
        for number, fd in enumerate(program.stdio):
            if fd != number:
                os.dup2(fd, number)
        close_descriptors_from(3, keep=(report, *confinement.held_descriptors))
        enter_namespaces(confinement)
        umask = os.umask(0o022)
        _write_report(report, [("note", note) for note in make_view()])
        os.umask(umask)
        try:
            os.chdir(program.cwd)
        except OSError as error:
            raise InputError(
                f"the working directory {program.cwd} cannot be entered in the box: {error.strerror}",
                hint="Start from a directory the box shows: not one of /run, /dev, or jubako's own.",
            ) from error
        give_up_rights(confinement)
        _write_report(report, [(_STARTED, "")])  # before the command, which could report anything
        try:
            command = _spawn(program)
        except OSError as error:
            _write_report(report, [("exec", f"cannot run {program.argv[0]!r}: {error.strerror}")])
            return NOT_FOUND if isinstance(error, (FileNotFoundError, NotADirectoryError)) else NOT_EXECUTABLE
        relay.child = command
        return reap_until(command)


def _spawn(program: Program) -> int:
    """The pid of the command; OSError if it cannot be executed.

    Not a fork: copying this interpreter's page tables for a process that throws them away takes a millisecond.
    """
    path = _find_program(program.argv[0], program.environment.get("PATH", os.defpath))
    return os.posix_spawn(path, list(program.argv), dict(program.environment), setsigdef=_IGNORED_BY_PYTHON)


def _find_program(name: str, path: str) -> str:
    """The file that a shell would execute for `name`: the first in `path` that can be executed, else the first of that
    name. A directory that cannot be searched is as good as empty."""
    if "/" in name:
        return name
    found = [file for directory in path.split(":") if os.path.isfile(file := os.path.join(directory, name))]
    if not found:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return next((file for file in found if os.access(file, os.X_OK)), found[0])


# --- errors on their way up -----------------------------------------------------------------------------------------


class _Reporting:
    """Sends what goes wrong in a child up the pipe, for the caller to raise, and ends the child."""

    def __init__(self, report: int) -> None:
        self._report = report

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, JubakoError):
            kind = next(name for name, kind in _ERRORS.items() if isinstance(error, kind))
            message, hint = error.message, error.hint
        elif isinstance(error, OSError):
            kind, message, hint = "HostError", f"cannot make the box: {error}", ""
        elif isinstance(error, Exception):  # the fork boundary: nothing may unwind into the caller's frames
            import traceback  # 3 ms to import, for our own mistakes alone

            kind, message, hint = "BugError", "".join(traceback.format_exception(error)), ""
        else:
            return
        _write_report(self._report, [("kind", kind), ("message", message), ("hint", hint)])
        os._exit(_SETUP_FAILED)


def _write_report(report: int, facts: Sequence[tuple[str, str]]) -> None:
    """Sends keys and values, each ended by a null byte: nothing may be imported where the view may hide Python."""
    if facts:
        os.write(report, b"".join(os.fsencode(word.replace("\0", "?")) + b"\0" for fact in facts for word in fact))


def _read_report(raw: bytes) -> list[tuple[str, str]]:
    """The keys and values sent. Not to be trusted: a command with CAP_SYS_PTRACE can reach the pipe by /proc/1/fd."""
    words = [os.fsdecode(word) for word in raw.split(b"\0")[:-1]]
    return list(zip(words[::2], words[1::2], strict=False))
