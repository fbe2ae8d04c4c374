"""A command in namespaces of its own: started, passed the signals meant for it, waited for, and nothing left behind.

    caller ──fork──> outer ──fork──> first ──fork──> command
                     enters the      pid 1 of the    executes the
                     namespaces      new namespace:  program
                                     makes the view,
                                     gives up rights

Each waits for the next and ends with its status. Each is killed when the one before it dies, and the end of pid 1 kills
whatever the command left running; so a `kill -9` anywhere leaves no process, and with the last process the mounts go.
What goes wrong on the way comes back to the caller through a pipe.

Signals: the command stays in the caller's process group and keeps its terminal, so Ctrl-C and Ctrl-Z reach it from
there and the others let them pass. A signal sent to the caller alone is handed down.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from jubako.boxes.loopback import bring_loopback_up
from jubako.errors import BugError, ConflictError, HostError, InputError, JubakoError, WorkError
from jubako.kernel import namespaces
from jubako.kernel.capabilities import drop_capabilities
from jubako.kernel.children import close_descriptors_from, fork_child, reap_until, wait_for
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.process import set_no_new_privs, set_pdeathsig
from jubako.kernel.seccomp import default_filter, install_filter

__all__ = ["Confinement", "Ended", "Program", "run_confined"]

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # as shells say it
_SETUP_FAILED = 125
_RELAYED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGQUIT)
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_ERRORS: dict[str, type[JubakoError]] = {
    kind.__name__: kind for kind in (BugError, ConflictError, HostError, InputError, WorkError)
}
_USER_NAMESPACE_HINTS = {
    errno.EPERM: "user namespaces are forbidden to you here (AppArmor, a sysctl or a container); "
    "'jubako doctor' says which",
    errno.ENOSPC: "raise /proc/sys/user/max_user_namespaces, as root",
    errno.EINVAL: "this kernel was built without one of these namespaces; 'jubako doctor' shows what it has",
}


MakeView = Callable[[], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Program:
    """What to execute. `argv[0]` is looked up in the PATH of `environment`; `cwd` is a path inside the view."""

    argv: Sequence[str]
    cwd: str
    environment: Mapping[str, str]
    stdio: tuple[int, int, int] = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Confinement:
    """What the command is shut into, beside its view."""

    user_namespace: bool  # its own, with this user's uid and gid alone
    network: bool  # the host's; False: its own, with nothing but loopback
    capabilities: frozenset[int] = frozenset()  # kept; all others are given up
    held_descriptors: tuple[int, ...] = ()  # left open in the processes around the command, not in the command


@dataclass(frozen=True, slots=True)
class Ended:
    """How the command ended."""

    exit_status: int  # as a shell shows it
    error: str = ""  # why it could not be executed
    notes: tuple[str, ...] = ()  # what `make_view` said


def run_confined(program: Program, confinement: Confinement, make_view: MakeView) -> Ended:
    """Runs `program` and waits for its end; `make_view` is called in the new namespaces, as pid 1, to mount its view,
    and says what that view lacks.

    Raises what `make_view` raises, and HostError if the namespaces cannot be made. When this returns or raises, no
    process of the box is left.
    """
    read_end, write_end = os.pipe()
    try:
        with _relay_signals() as relay, _foreground_restored():
            try:
                outer = fork_child(lambda: _outer(program, confinement, make_view, write_end))
            finally:
                os.close(write_end)
            relay.child = outer
            status = wait_for(outer)
        with os.fdopen(read_end, "rb", closefd=False) as pipe:
            report = _read_report(pipe.read())
    finally:
        os.close(read_end)
    if "kind" in report:
        raise _ERRORS[report["kind"]](report["message"], hint=report["hint"])
    return Ended(status, report.get("exec", ""), tuple(report.get("notes", ())))


def _outer(program: Program, confinement: Confinement, make_view: MakeView, report: int) -> int:
    """Enters the namespaces; its child is the first process of the new pid namespace."""
    with _reporting(report):
        for number, fd in enumerate(program.stdio):
            if fd != number:
                os.dup2(fd, number)
        close_descriptors_from(3, keep=(report, *confinement.held_descriptors))
        caller = os.getppid()
        flags = namespaces.CLONE_NEWNS | namespaces.CLONE_NEWPID | namespaces.CLONE_NEWIPC | namespaces.CLONE_NEWUTS
        if not confinement.network:
            flags |= namespaces.CLONE_NEWNET
        try:
            if confinement.user_namespace:
                enter_user_namespace(flags)
            else:
                namespaces.unshare(flags)
        except OSError as error:
            what = "user namespace" if confinement.user_namespace else "mount namespace"
            raise HostError(
                f"cannot make a {what} for the box: {error}", hint=_USER_NAMESPACE_HINTS.get(error.errno or 0, "")
            ) from error
        set_pdeathsig()  # a new user namespace made the kernel forget it
        if os.getppid() != caller:
            os._exit(_SETUP_FAILED)  # the caller died in between; nobody waits
        with _relay_signals() as relay:
            relay.child = fork_child(lambda: _first(program, confinement, make_view, report))
            return wait_for(relay.child)


def _first(program: Program, confinement: Confinement, make_view: MakeView, report: int) -> int:
    """Makes the view, gives up what the command must not have, and reaps: the pid 1 of the box."""
    with _reporting(report), _relay_signals() as relay:
        if not confinement.network:
            bring_loopback_up()
        umask = os.umask(0o022)
        _write_report(report, {"notes": list(make_view())})
        os.umask(umask)
        try:
            os.chdir(program.cwd)
        except OSError as error:
            raise InputError(
                f"the working directory {program.cwd} cannot be entered in the box: {error.strerror}",
                hint="Start from a directory the box shows: not one of /run, /dev, or jubako's own.",
            ) from error
        # Only who could gain rights by executing a program, root, needs the bounding set emptied.
        drop_capabilities(confinement.capabilities, bounding=os.geteuid() == 0)
        set_no_new_privs()
        install_filter(default_filter())
        relay.child = command = fork_child(lambda: _command(program, report))
        return reap_until(command)


def _command(program: Program, report: int) -> NoReturn:
    for number in (*_RELAYED, *_IGNORED_BY_PYTHON):
        if signal.getsignal(number) is not signal.SIG_IGN or number in _IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(program.argv[0], list(program.argv), dict(program.environment))
    except OSError as error:
        _write_report(report, {"exec": f"cannot run {program.argv[0]!r}: {error.strerror}"})
        os._exit(NOT_FOUND if isinstance(error, (FileNotFoundError, NotADirectoryError)) else NOT_EXECUTABLE)


# --- errors on their way up -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _reporting(report: int) -> Iterator[None]:
    """Sends what goes wrong in a child up the pipe, for the caller to raise, and ends the child."""
    try:
        yield
    except JubakoError as error:
        _write_report(report, {"kind": type(error).__name__, "message": error.message, "hint": error.hint})
    except OSError as error:
        _write_report(report, {"kind": "HostError", "message": f"cannot make the box: {error}", "hint": ""})
    except Exception:  # noqa: BLE001  the fork boundary: nothing may unwind into the caller's frames
        _write_report(report, {"kind": "BugError", "message": traceback.format_exc(), "hint": ""})
    else:
        return
    os._exit(_SETUP_FAILED)


def _write_report(report: int, content: dict[str, Any]) -> None:
    os.write(report, json.dumps(content).encode() + b"\n")


def _read_report(raw: bytes) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for line in raw.splitlines():
        report |= json.loads(line)
    return report


# --- signals and the terminal ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Relay:
    """Whom signals are handed down to. Those that come before there is a child are kept for it."""

    _child: int = 0
    _early: tuple[int, ...] = ()

    @property
    def child(self) -> int:
        return self._child

    @child.setter
    def child(self, pid: int) -> None:
        self._child = pid
        early, self._early = self._early, ()
        for number in early:
            self.hand_down(number, None)

    def hand_down(self, number: int, _frame: FrameType | None) -> None:
        if number in _FROM_TERMINAL and _is_in_foreground():
            return  # typed at the terminal, which has sent it to the whole process group
        if not self._child:
            self._early += (number,)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, number)


@contextlib.contextmanager
def _relay_signals() -> Iterator[_Relay]:
    """Hands signals down for the time of the block; those that were ignored stay ignored (nohup).

    Python lets only the main thread set handlers: in another, signals do what they did.
    """
    relay = _Relay()
    if threading.current_thread() is not threading.main_thread():
        yield relay
        return
    before = {number: signal.getsignal(number) for number in _RELAYED}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, relay.hand_down)
        yield relay
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_in_foreground() -> bool:
    """True if this process's group is the one its terminal sends Ctrl-C to."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


@contextlib.contextmanager
def _foreground_restored() -> Iterator[None]:
    """Gives the terminal back to this process's group afterwards, if that had it before.

    An interactive shell takes it for groups of its own, and from inside a pid namespace cannot name ours to give back.
    """
    had_it = _is_in_foreground()
    try:
        yield
    finally:
        if had_it and not _is_in_foreground():
            with contextlib.suppress(OSError):
                terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
                mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # or the kernel stops us for it
                try:
                    os.tcsetpgrp(terminal, os.getpgrp())
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                    os.close(terminal)
