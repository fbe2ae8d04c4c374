"""The first process of a command's box, pid 1 of its pid namespace: makes the view, gives up its rights, starts the
command, and reaps what the command leaves. Its end is the end of everything in the box.
"""

from __future__ import annotations

import errno
import gc
import os
import resource

from jubako.boxes.commands.confine import enter_inner, enter_namespaces, give_up_rights
from jubako.boxes.commands.relay import Relay
from jubako.boxes.commands.report import SETUP_FAILED, STARTED, Reporting, write_report
from jubako.kernel.children import close_descriptors_from, fork_child, reap_until
from jubako.kernel.process import set_dumpable
from jubako.kernel.signals import signal
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from jubako.boxes.commands.become import Identity
    from jubako.boxes.commands.confine import Confinement
    from jubako.boxes.resources.restrain import Restraint

__all__ = [
    "NOT_EXECUTABLE",
    "NOT_FOUND",
    "MakeView",
    "Program",
    "be_first",
    "bind",
    "find_program",
    "fork_prepared",
    "shut_in",
]

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # as shells say it
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)

MakeView: TypeAlias = "Callable[[], Sequence[str]]"


@record
class Program:
    """What to execute. `argv[0]` is looked up in the PATH of `environment`; `cwd` is a path inside the view.

    With a `function`, that is called in a fork of this interpreter instead, with the descriptors `kept` open beside the
    three; what it returns is the status. With an `inside`, pid 1 itself calls that, with this program and what binds it
    to limits, and the box ends when it returns; the descriptors `handed` are pid 1's alone from then on.
    """

    argv: Sequence[str]
    cwd: str
    environment: Mapping[str, str]
    stdio: tuple[int, int, int] = (0, 1, 2)
    function: Callable[[], int] | None = None
    kept: tuple[int, ...] = ()
    user: Identity | None = None  # who it is to be, in a box of root's
    inside: Callable[[Program, Restraint | None], int] | None = None
    handed: tuple[int, ...] = ()


def be_first(
    confinement: Confinement,
    make_view: MakeView,
    report: int,
    get_program: Callable[[], Program],
    kept_descriptors: Sequence[int] = (),
) -> int:
    """Shuts this process in, runs the program that `get_program` then says, and returns its status as a shell shows it.

    Of the descriptors, 0 to 2, `report`, those of `confinement` and `kept_descriptors` stay open until the program is
    executed. What goes wrong goes up `report`, and ends the process.
    """
    gc.disable()  # a collection here would copy every page the caller's objects are on
    with Reporting(report), Relay() as relay:
        if confinement.own_session:
            os.setsid()  # or a command that signals its process group would hit whoever is in ours
        if confinement.restraint is not None:
            confinement.restraint.join()
        kept = (*kept_descriptors, *confinement.held_descriptors, *confinement.carried_descriptors)
        close_descriptors_from(3, keep=(report, *kept))
        umask = os.umask(0o022)
        notes = shut_in(confinement, make_view)
        write_report(report, [("note", note) for note in notes])
        os.umask(umask)
        program = get_program()
        for number, fd in enumerate(program.stdio):
            if fd != number:
                os.dup2(fd, number)
        try:
            os.chdir(program.cwd)
        except OSError as error:
            write_report(report, [("cwd", program.cwd), ("cwd_errno", str(error.errno))])
            return SETUP_FAILED
        write_report(report, [(STARTED, "")])  # before the command, which could report anything
        try:
            if program.inside is not None:
                return program.inside(program, confinement.restraint)
            if confinement.profile.is_first:
                _become(program, confinement.restraint)
            command = _start(program, confinement.restraint)
        except OSError as error:
            write_report(report, [("exec_errno", str(error.errno))])
            return NOT_FOUND if isinstance(error, (FileNotFoundError, NotADirectoryError)) else NOT_EXECUTABLE
        relay.child = command
        status = reap_until(command)
        write_report(report, [("peak", str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))])
        return status


def shut_in(confinement: Confinement, make_view: MakeView) -> list[str]:
    """Makes the view, in namespaces of this process's own, and gives up what the command must not have; what the view
    lacks, in words. All of it by system calls that can be written down (`kernel.syscalls.recorded`)."""
    enter_namespaces(confinement)
    carrier = confinement.carrier
    notes = [*make_view(), *(carrier.show_resolver() if carrier is not None else ())]
    enter_inner(confinement)
    give_up_rights(confinement)
    return notes


def _start(program: Program, restraint: Restraint | None) -> int:
    """The pid of the command; OSError if it cannot be executed."""
    if program.function is not None:
        return _fork(program, program.function, restraint)
    path = find_program(program.argv[0], program.environment.get("PATH", os.defpath))
    is_plain = restraint is None and program.user is None
    return _spawn(path, program) if is_plain else _fork_bound(path, program, restraint)


def _spawn(path: str, program: Program) -> int:
    """Not a fork: copying this interpreter's page tables for a process that throws them away takes a millisecond."""
    return os.posix_spawn(path, list(program.argv), dict(program.environment), setsigdef=_IGNORED_BY_PYTHON)


def _fork_bound(path: str, program: Program, restraint: Restraint | None) -> int:
    def prepare() -> None:
        for number in _IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
        bind(restraint, program.user)

    return fork_prepared(path, program.argv, program.environment, prepare)


def _become(program: Program, restraint: Restraint | None) -> None:
    """Makes this process itself the program. Returns never; OSError if it cannot be executed."""
    path = find_program(program.argv[0], program.environment.get("PATH", os.defpath))
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    bind(restraint, program.user)
    os.execve(path, list(program.argv), dict(program.environment))


def fork_prepared(path: str, argv: Sequence[str], environment: Mapping[str, str], prepare: Callable[[], None]) -> int:
    """The pid of a child that calls `prepare` and executes `path`. OSError if it can't be executed.

    A fork, since what is to be bound, or somebody else's, is the command, and this process must not be.
    """
    failed, tell = os.pipe()  # closed by execve(2)
    pid = os.fork()
    if pid == 0:
        code = errno.EIO
        try:
            prepare()
            os.execve(path, list(argv), dict(environment))
        except OSError as error:
            code = error.errno or code
        finally:
            os.write(tell, code.to_bytes(4, "little"))
            os._exit(SETUP_FAILED)
    os.close(tell)
    told = os.read(failed, 4)
    os.close(failed)
    if told:
        os.waitpid(pid, 0)
        code = int.from_bytes(told, "little")
        raise OSError(code, os.strerror(code), path)
    return pid


def bind(restraint: Restraint | None, user: Identity | None) -> None:
    """Binds this process, which is to become the command, to its limits, and makes it that user's."""
    if restraint is not None:
        restraint.bound()
    if user is not None:
        user.become()


def _fork(program: Program, function: Callable[[], int], restraint: Restraint | None) -> int:
    """The pid of a child that calls `function`, with what is this process's own closed."""

    def call() -> int:
        close_descriptors_from(3, keep=program.kept)  # the box's directory, which is outside of the view, above all
        set_dumpable(dumpable=True)  # or /proc/self is root's; what there is to see is the function's own
        gc.enable()
        bind(restraint, program.user)
        return function()

    return fork_child(call)


def find_program(name: str, path: str) -> str:
    """The file that a shell would execute for `name`: the first in `path` that can be executed, else the first of that
    name. A directory that cannot be searched is as good as empty."""
    if "/" in name:
        return name
    found = [file for directory in path.split(":") if os.path.isfile(file := os.path.join(directory, name))]
    if not found:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return next((file for file in found if os.access(file, os.X_OK)), found[0])
