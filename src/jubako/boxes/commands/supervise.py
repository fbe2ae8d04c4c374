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

import os
import time

from jubako.boxes.commands.confine import close_inner, enter_or_explain, open_inner
from jubako.boxes.commands.first import be_first
from jubako.boxes.commands.relay import Foreground, Relay
from jubako.boxes.commands.report import SETUP_FAILED, Reporting, explain_execution, raise_reported, read_report
from jubako.kernel import namespaces
from jubako.kernel.children import close_descriptors_from, exit_status, fork_child, wait_for
from jubako.kernel.idmap import enter_user_namespace, forbid_user_namespaces
from jubako.kernel.process import set_pdeathsig
from jubako.kernel.signals import signal
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from jubako.boxes.commands.confine import Confinement
    from jubako.boxes.commands.first import MakeView, Program
    from jubako.boxes.resources.usage import Stopped
    from jubako.boxes.resources.watch import Stop

    class Watching(Protocol):
        """Waits until the child `pid` has ended, or ends it; `hand_down` passes a signal on to the command."""

        def wait(self, pid: int, hand_down: Callable[[int], None]) -> Stop: ...


__all__ = ["Ended", "fork_first", "run_confined", "start_first"]

_OUT_OF_TIME = 124  # as timeout(1) says it
_KILLED = 128 + int(signal.SIGKILL)


@record
class Ended:
    """How the command ended."""

    exit_status: int  # as a shell shows it
    error: str = ""  # why it could not be executed
    notes: tuple[str, ...] = ()  # what `make_view` said
    stopped: Stopped = ""  # by the watch, and why
    wall_s: float = 0.0
    user_s: float = 0.0  # of all processes of the box
    system_s: float = 0.0
    peak_bytes: int = 0  # of the largest process that was waited for


def run_confined(
    program: Program, confinement: Confinement, make_view: MakeView, watch: Watching | None = None
) -> Ended:
    """Runs `program` and waits for its end; `make_view` is called in the new namespaces, as pid 1, to mount its view,
    and says what that view lacks. `watch` ends it when a limit is met.

    Raises what `make_view` raises, a HostError as NotStarted, and NotStarted if the namespaces cannot be made. When it
    returns or raises, no process of the box is left.
    """
    stop = None
    started = time.monotonic()
    confinement, lacking = open_inner(confinement)
    try:
        read_end, write_end = os.pipe()
    except OSError:
        close_inner(confinement)
        raise
    if confinement.carrier is not None:
        confinement.carrier.open()
    try:
        with Relay() as relay, Foreground():
            try:
                if confinement.user_namespace:
                    relay.child = fork_child(lambda: _outer(program, confinement, make_view, write_end))
                else:
                    relay.child = fork_first(lambda: _be_first(program, confinement, make_view, write_end))
            finally:
                os.close(write_end)
                close_inner(confinement)
                for fd in program.handed:
                    os.close(fd)
            if confinement.carrier is not None:
                confinement.carrier.meet()
            if watch is not None:
                stop = watch.wait(relay.child, lambda number: relay.hand_down(number, None))
            _pid, ended, usage = os.wait4(relay.child, 0)
        with os.fdopen(read_end, "rb", closefd=False) as pipe:
            report = read_report(pipe.read())
    finally:
        os.close(read_end)
        if confinement.carrier is not None:
            confinement.carrier.leave()
    raise_reported(report)
    facts = dict(report)
    stopped: Stopped = "" if stop is None else stop.why
    return Ended(
        exit_status={"": exit_status(ended), "wall": _OUT_OF_TIME}.get(stopped, _KILLED),
        error=explain_execution(report, program.argv[0]),
        notes=(*(value for key, value in report if key == "note"), *lacking),
        stopped=stopped,
        wall_s=time.monotonic() - started,
        user_s=max(usage.ru_utime, stop.user_s if stop else 0.0),
        system_s=max(usage.ru_stime, stop.system_s if stop else 0.0),
        peak_bytes=_parse_peak(facts.get("peak", "")) or usage.ru_maxrss * 1024,
    )


def _parse_peak(kilobytes: str) -> int:
    return int(kilobytes) * 1024 if kilobytes.isdecimal() else 0


def fork_first(run: Callable[[], int]) -> int:
    """Forks the pid 1 of a new pid namespace straight from the caller, whose own later children are not touched."""
    return start_first(lambda: fork_child(run))


def start_first(start: Callable[[], int]) -> int:
    """The pid of the process that `start` starts, as pid 1 of a new pid namespace."""
    own = namespaces.open_namespace("pid_for_children", "thread-self")
    try:
        enter_or_explain(namespaces.CLONE_NEWPID, namespaces.unshare)
        try:
            return start()
        finally:
            namespaces.setns(own, namespaces.CLONE_NEWPID)
    finally:
        os.close(own)


def _outer(program: Program, confinement: Confinement, make_view: MakeView, report: int) -> int:
    """Enters a user namespace, where this user may make the others; its child is the first of a new pid namespace."""
    with Reporting(report):
        caller = os.getppid()
        enter_or_explain(namespaces.CLONE_NEWPID, enter_user_namespace)
        set_pdeathsig()  # a new user namespace made the kernel forget it
        if os.getppid() != caller:
            os._exit(SETUP_FAILED)  # the caller died in between; nobody waits
        if not confinement.profile.nests:
            forbid_user_namespaces()
        with Relay() as relay:
            relay.child = fork_child(lambda: _be_first(program, confinement, make_view, report))
            close_descriptors_from(0)
            return wait_for(relay.child)


def _be_first(program: Program, confinement: Confinement, make_view: MakeView, report: int) -> int:
    return be_first(confinement, make_view, report, lambda: program, (*program.stdio, *program.kept, *program.handed))
