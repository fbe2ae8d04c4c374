"""A box that is made ahead: its view is mounted, its first process has given up its rights and waits for a command.

server                              first process of the box
  start_ready ───────────────────>  makes the view, gives up its rights
  <────────────────  ready, notes
  start, with 0, 1, 2 and the ────>  executes the command, reaps
  socket of who asked for it        says there what there is to say, `ended STATUS` last: nothing else lives any more
  <────────────────  (end)          its mounts are gone

The first process is a compiled program that carries out a script (`first.c`), or a fork of the server.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import socket

from jubako.boxes.commands.confine import open_inner
from jubako.boxes.commands.first import Program, be_first
from jubako.boxes.commands.report import read_report, write_report
from jubako.boxes.commands.supervise import fork_first, start_first
from jubako.boxes.serving.messages import ENDED, receive_packet
from jubako.kernel.capabilities import capability_number
from jubako.kernel.children import close_descriptors_from, reap_all
from jubako.kernel.process import kill_namespace, pidfd_open, set_process_name, signal_if_alive
from jubako.kernel.signals import signal
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.boxes.commands.confine import Confinement
    from jubako.boxes.commands.make import NewBox
    from jubako.boxes.commands.report import Facts
    from jubako.boxes.serving.scripts import Scripts

__all__ = ["ReadyBox", "start_ready"]

_CAP_KILL = capability_number("CAP_KILL")
_READY = "ready"
_ABOVE = 16  # the numbers that the compiled program's descriptors are to have
_USUAL = (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)
_PACKET_BYTES = 1 << 16


@record(frozen=False)
class ReadyBox:
    """The server's side of a box that was made ahead."""

    new: NewBox
    pidfd: int  # of its first process
    control: socket.socket
    facts: Facts  # what its first process has reported
    open_files: tuple[int, int]  # what the command gets for RLIMIT_NOFILE
    is_compiled: bool  # its first process

    def start(self, program: Program, answer: int) -> None:
        """Has the first process execute `program`, and report to the socket `answer`. OSError if it is gone."""
        environment = (f"{name}={value}" for name, value in program.environment.items())
        numbers = (len(program.argv), *self.open_files)
        words = (program.cwd, *map(str, numbers), *program.argv, *environment)
        data = b"".join([os.fsencode(word) + b"\0" for word in words])
        file = os.memfd_create("jubako-program")  # an environment may be larger than a packet
        try:
            with os.fdopen(file, "wb", closefd=False) as stream:
                stream.write(data)
            socket.send_fds(self.control, [b"run"], [file, *program.stdio, answer])
        finally:
            os.close(file)

    def read(self) -> bool:
        """Takes in what the first process has to say; False once it has ended. Does not wait."""
        while True:
            try:
                data = self.control.recv(_PACKET_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False
            if not data:
                return False
            self.facts += read_report(data)

    def wait_until_ready(self) -> bool:
        """Waits until a command can be started; False if the box could not be made (`facts` say why)."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        while not any(key == _READY for key, _ in self.facts):
            poll.poll()
            if not self.read():
                return False
        return True

    def signal(self, number: int) -> None:
        """Sends the command a signal; one that cannot be caught ends the box."""
        if number == signal.SIGKILL:
            self.kill()
            return
        signal_if_alive(self.pidfd, number)

    def kill(self) -> None:
        """Ends everything in the box."""
        kill_namespace(self.pidfd)

    def bury(self) -> int:
        """Waits for the first process, which has ended or is about to, and closes what stood for it; its status."""
        ended = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)
        self.control.close()
        if ended is None:  # only WNOHANG makes it so
            return 0
        return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status


def start_ready(new: NewBox, open_files: tuple[int, int], scripts: Scripts | None = None) -> ReadyBox:
    """Starts the first process of `new`, which makes the rest of it by itself: the compiled program, if `scripts` has
    one and this box can be written down. HostError where it cannot be started."""
    confinement, lacking = open_inner(replace(new.confinement, own_session=True))
    notes = [("note", note) for note in lacking]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid, is_compiled = 0, False
        if scripts is not None and (script := scripts.write(new, confinement)) is not None:
            pid = _spawn_first(scripts.program, script.data, confinement, theirs)
            is_compiled = bool(pid)
            notes = [*(("note", note) for note in script.notes if is_compiled), *notes]
        if not pid:
            pid = fork_first(lambda: _be_ready(new, confinement, theirs, open_files))
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return ReadyBox(new, pidfd_open(pid), ours, notes, open_files, is_compiled)


def _spawn_first(program: str, script: bytes, confinement: Confinement, control: socket.socket) -> int:
    """The pid of the compiled program, 0 if it cannot be executed."""
    try:
        return start_first(lambda: _spawn(program, script, confinement, control))
    except OSError:  # it was removed, or is none; what else it may be, a fork will meet, too
        return 0


def _spawn(program: str, script: bytes, confinement: Confinement, control: socket.socket) -> int:
    """The pid of the compiled program, with its descriptors in their places."""
    file = os.memfd_create("jubako-script")
    held = [file]
    try:
        written = 0
        while written < len(script):
            written += os.write(file, script[written:])
        os.lseek(file, 0, os.SEEK_SET)
        given = [control.fileno(), file]
        if confinement.inner_descriptor >= 0:
            given.append(confinement.inner_descriptor)
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for fd in given]  # clear of the places
        held += high
        places = [(os.POSIX_SPAWN_DUP2, fd, 3 + at) for at, fd in enumerate(high)]
        umask = os.umask(0o022)
        os.umask(umask)
        ends = "kill" if _may_kill(confinement) else "leave"
        return os.posix_spawn(
            program,
            [program, f"{umask:o}", ends],
            {},
            file_actions=places,
            setsigmask=[],
            setsigdef=_USUAL,
        )
    finally:
        for fd in held:
            os.close(fd)


def _be_ready(new: NewBox, confinement: Confinement, control: socket.socket, open_files: tuple[int, int]) -> int:
    set_process_name("jubako-box")
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which the server ignores
    report = control.fileno()

    def get_program() -> Program:
        resource.setrlimit(resource.RLIMIT_NOFILE, open_files)
        write_report(report, [(_READY, "")])
        program, answer = _receive_program(control)
        os.dup2(answer, report, inheritable=False)
        os.close(answer)
        return program

    status = be_first(confinement, lambda: new.view.make(new.plan), report, get_program)
    if _may_kill(confinement):
        _kill_the_rest()
        write_report(report, [(ENDED, str(status))])
        close_descriptors_from(0)
    return status


def _may_kill(confinement: Confinement) -> bool:
    """Whether the first process may end all that is in its box; else the kernel does it, when that one has ended."""
    return os.geteuid() != 0 or _CAP_KILL in confinement.capabilities


def _receive_program(control: socket.socket) -> tuple[Program, int]:
    """What to execute, and where to say how that went."""
    data, fds = receive_packet(control)
    if not data:
        os._exit(0)  # no command will come
    with os.fdopen(fds[0], "rb") as stream:
        stream.seek(0)
        cwd, count, _soft, _hard, *words = [os.fsdecode(word) for word in stream.read().split(b"\0")[:-1]]
    environment = dict(word.split("=", 1) for word in words[int(count) :])
    stdio: Sequence[int] = fds[1:4]
    return Program(words[: int(count)], cwd, environment, (stdio[0], stdio[1], stdio[2])), fds[4]


def _kill_the_rest() -> None:
    """Ends and reaps what the command left running; this process is not meant by -1."""
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        return
    reap_all()
