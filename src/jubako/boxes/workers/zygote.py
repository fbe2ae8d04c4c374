"""The process that has the pipeline loaded and is forked once per job: single-threaded, pid 1 of its pid namespace.

The child for the next job is forked ahead. It does what does not depend on the job, then waits for its command, so that
a fork (a third of what a small job takes) happens while nobody waits for it. A child runs one job, or one check.

When a child has ended, every other process of the namespace is killed: one job runs at a time, and kill(-1) by pid 1
reaches them all at once, whatever session, group or parent they chose. No fork slips through, since the kernel holds
the task list meanwhile and a process with SIGKILL pending cannot fork. What they leave is pid 1's to reap.

Rights: the zygote keeps what a child needs to enter its view, and the child gives it up. The system call filter, which
children inherit, refuses all but that; no_new_privs is set and the bounding set empty before the pipeline is imported.
"""

from __future__ import annotations

import atexit
import errno
import gc
import io
import json
import os
import select
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress

from jubako.boxes.inside import FRAME_HEADER, write_frame
from jubako.boxes.views.plan import TMP
from jubako.boxes.workers.child import COMMAND_BYTES, Nursery, load_function, run_child
from jubako.boxes.workers.explain import explain_failure
from jubako.boxes.workers.hazards import find_hazards, list_descriptors
from jubako.boxes.workers.search_path import reserve_standard_names
from jubako.kernel import capabilities, filesystems, seccomp
from jubako.kernel.children import exit_status
from jubako.kernel.landlock import landlock_abi
from jubako.kernel.namespaces import CLONE_NEWNET
from jubako.kernel.process import set_no_new_privs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any, Final

    from jubako.boxes.links import Links
    from jubako.boxes.workers.wire import Setup

__all__ = [
    "BROKEN",
    "DONE",
    "DONE_FIELDS",
    "DROPPED_VARIABLES",
    "LOADED",
    "NO_PROC",
    "PROC",
    "SIGNAL_FIELDS",
    "UNFIT_TO_FORK",
    "live",
]

# Frames to the foreman.
PROC: Final = b"P"  # empty; comes with a descriptor
NO_PROC: Final = b"N"  # JSON: why there is none
LOADED: Final = b"L"  # JSON: the variables that were taken out of the environment
UNFIT_TO_FORK: Final = b"U"  # JSON: a list of reasons
BROKEN: Final = b"B"  # JSON: {"error": sentence, "traceback": text}; the pipeline cannot be imported
DONE: Final = b"D"  # DONE_FIELDS: a child has ended and nothing it started lives
# Did it take a command; its status as a shell shows it; CPU seconds of all; peak bytes of the largest process.
DONE_FIELDS: Final = struct.Struct("<?idQ")

# From the foreman: a signal for all that runs, if the running command is still the one with this number.
SIGNAL_FIELDS: Final = struct.Struct("<BQ")

# Variables that lead to control sockets, which a box hides; and to a directory below /run, which is hidden whole.
DROPPED_VARIABLES: Final = (
    *("SSH_AUTH_SOCK", "SSH_AGENT_PID", "GPG_AGENT_INFO", "DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS"),
    *("XDG_RUNTIME_DIR", "DOCKER_HOST", "CONTAINER_HOST", "PODMAN_HOST", "WAYLAND_DISPLAY", "PULSE_SERVER"),
)

_SIGKILL = int(signal.SIGKILL)
_FORK_PAUSES_MS = (1, 10, 100, 1000, 1000, 1000)
_UNTAKEN_BORNE = 100  # children in a row that ended without a command; a signal or the lack of memory ends one or two
_REAP_EVERY_MS = 1000  # orphans that end while a job runs; until then each holds a place in the process table


def live(links: Links, setup: Setup, *, is_preloaded: bool) -> int:
    """The zygote's life; returns only when it cannot be forked, or the foreman is gone.

    Between the end of the foreman's descriptors and the signal that its death sends there are milliseconds on a busy
    machine, while its mounts are taken away. Whatever is said to it meanwhile finds nobody.
    """
    with suppress(BrokenPipeError, ConnectionResetError):
        _live(links, setup, is_preloaded=is_preloaded)
    return 0


def _live(links: Links, setup: Setup, *, is_preloaded: bool) -> None:
    # Pid 1 is deaf to it; Python's handler would let any task interrupt the zygote. Children leave it so: they are
    # in sessions of their own, where no terminal sends it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if not _send_proc(links):
        return
    limit_rights()
    dropped = {name: os.environ.pop(name) for name in DROPPED_VARIABLES if name in os.environ}
    ours = list_descriptors()
    reserve_standard_names()
    sys.path[:] = setup.sys_path
    if is_preloaded and setup.preload and not _preload(setup, links, ours):
        return
    kept = tuple(fd for fd in list_descriptors() if fd not in ours)
    os.environ["TMPDIR"] = TMP
    tempfile: Any = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile.tempdir = None  # what was found while the pipeline was imported
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what a task prints is shown as it comes
    _tell(links, LOADED, dropped)
    atexit._clear()  # what importing the pipeline registered is not for its children to do
    taken_read, taken_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    nursery = Nursery(
        commands=links.commands,
        taken_fd=taken_write,
        null_fd=os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC),
        kept_fds=kept,
        preload="" if is_preloaded else setup.preload,
        preload_argument=setup.preload_argument,
    )
    gc.collect()
    gc.freeze()  # the collector would write to every page of the pipeline, in every child
    _Zygote(links.control.fileno(), taken_read).serve(nursery)


def limit_rights() -> None:
    """Gives up what neither the zygote nor a child may do, for ever.

    The inheritable set is filled before the bounding set is emptied: a child of a box that keeps a capability can then
    keep it across the programs it executes. Of the calls on the deny list, a child must join its view (and, without the
    network, make an empty one) before it gives up its rights; without them the kernel refuses both.
    """
    held = capabilities.capget()
    capabilities.capset(effective=held.effective, permitted=held.permitted, inheritable=held.permitted)
    for number in range(capabilities.last_capability() + 1):
        capabilities.capbset_drop(number)
    set_no_new_privs()
    landlock_abi()  # asked once, and not by every child
    argument, bits = seccomp.DENIED_FLAGS["unshare"]
    left = {"setns": None, "unshare": seccomp.Rule(errno.EPERM, argument, bits & ~CLONE_NEWNET)}
    seccomp.install_filter(seccomp.compile_filter(seccomp.default_rules() | left, os.uname().machine))


def _send_proc(links: Links) -> bool:
    """Gives the foreman a /proc of this pid namespace, which only a process in it can make."""
    try:
        fd = filesystems.proc()
    except OSError as error:
        _tell(links, NO_PROC, f"a /proc of its own cannot be mounted: {error}")
        return False
    header = FRAME_HEADER.pack(PROC, 0)
    socket.send_fds(links.control, [header], [fd])
    os.close(fd)
    return True


def _preload(setup: Setup, links: Links, ours: Collection[int]) -> bool:
    """Imports the pipeline; True if tasks can be forked from this process now."""
    try:
        load_function(setup.preload)(setup.preload_argument)
    except BaseException as error:  # noqa: BLE001  the pipeline's code; whatever it raises is for the runner
        text = "".join(traceback.format_exception(error))
        _tell(links, BROKEN, {"error": explain_failure(error), "traceback": text})
        return False
    hazards = find_hazards(ours)
    if hazards:
        _tell(links, UNFIT_TO_FORK, hazards)
    return not hazards


def _tell(links: Links, kind: bytes, what: object) -> None:
    write_frame(links.control.fileno(), kind, json.dumps(what).encode())


def _discard_command(commands: socket.socket) -> None:
    """Does away with the command of a child that was killed between saying that it takes it and taking it."""
    try:
        _, ancillary, _, _ = commands.recvmsg(1, COMMAND_BYTES, socket.MSG_DONTWAIT)
    except BlockingIOError:  # it had taken it
        return
    for _, _, data in ancillary:
        for (fd,) in struct.iter_unpack("i", data):
            os.close(fd)


class _Zygote:
    """The loop: one child at a time, from its fork to the death of all it started.

    After a fork each page that is written here is copied first, so the loop is made of few objects and makes few.
    """

    def __init__(self, control_fd: int, taken_fd: int) -> None:
        self._control_fd = control_fd
        self._taken_fd = taken_fd
        self._poll = select.poll()
        self._poll.register(control_fd, select.POLLIN)
        self._command = 1  # the number of the command that runs, or will run next
        self._cpu_s = 0.0  # of all that have ended since the fork
        self._peak_kb = 0  # of the largest of them

    def serve(self, nursery: Nursery) -> None:
        """Keeps one child ready, and sees each to its end, until the foreman is gone."""
        untaken = 0
        while untaken < _UNTAKEN_BORNE and (pid := self._fork()) is not None:
            if pid == 0:
                run_child(nursery)
            self._cpu_s, self._peak_kb = 0.0, 0
            status = self._wait(pid)
            if status is None:
                return
            self._kill_the_rest()
            took = self._took_command()
            if took and status:
                _discard_command(nursery.commands)
            write_frame(self._control_fd, DONE, DONE_FIELDS.pack(took, status, self._cpu_s, self._peak_kb * 1024))
            self._command += took
            untaken = 0 if took else untaken + 1
        if untaken:
            os.write(2, b"jubako: processes for tasks end before they take any work\n")

    def _fork(self) -> int | None:
        """The pid of a new child, 0 in it; None when there have been too many processes for as long as one may wait, or
        the foreman is gone."""
        for pause_ms in _FORK_PAUSES_MS:
            try:
                return os.fork()
            except BlockingIOError:  # EAGAIN: a limit on processes was met, which others may soon have left
                for _ in self._poll.poll(pause_ms):
                    if not self._pass_signal():
                        return None
        return None

    def _wait(self, pid: int) -> int | None:
        """Waits for the child `pid` and passes signals on; its status, None when the foreman is gone."""
        pidfd = os.pidfd_open(pid)
        self._poll.register(pidfd, select.POLLIN)
        try:
            while True:
                ready = [fd for fd, _ in self._poll.poll(_REAP_EVERY_MS)]
                if self._control_fd in ready and not self._pass_signal():
                    return None
                if pidfd in ready or not ready:
                    status = self._reap(pid)
                    if status is not None:
                        return status
        finally:
            self._poll.unregister(pidfd)
            os.close(pidfd)

    def _pass_signal(self) -> bool:
        """Sends all that runs the signal that was asked for; False when the foreman is gone.

        One that was meant for the command before, and came late, is let drop.
        """
        order = os.read(self._control_fd, SIGNAL_FIELDS.size)
        if not order:
            return False
        number, command = SIGNAL_FIELDS.unpack(order)
        if command == self._command:
            with suppress(ProcessLookupError):
                os.kill(-1, number)
        return True

    def _took_command(self) -> bool:
        """True if the child that has just ended had a command; one that was waiting leaves it to the next."""
        try:
            return bool(os.read(self._taken_fd, 1))
        except BlockingIOError:
            return False

    def _reap(self, pid: int) -> int | None:
        """Waits for what has ended already; the status of the child `pid` if that is among it."""
        while True:
            ended, status, usage = os.wait4(-1, os.WNOHANG)
            if ended == 0:
                return None
            self._count(usage)
            if ended == pid:
                return exit_status(status)

    def _kill_the_rest(self) -> None:
        """Kills every other process of this pid namespace, and waits until none is left."""
        try:  # noqa: SIM105  (`suppress` makes objects)
            os.kill(-1, _SIGKILL)
        except ProcessLookupError:
            pass  # nobody, or such as have ended and want to be reaped
        try:
            while True:
                self._count(os.wait4(-1, 0)[2])
        except ChildProcessError:
            return

    def _count(self, usage: Any) -> None:
        self._cpu_s += usage.ru_utime + usage.ru_stime
        self._peak_kb = max(self._peak_kb, usage.ru_maxrss)
