"""The box server's process: takes requests, starts their commands in boxes made ahead, and tells how they ended.

It is a fresh, small interpreter, so that a fork costs little however much its program holds; it has one thread, and as
an ordinary user a user namespace of its own, in which it may make the others, with a parent that only waits for it. A
program has it for itself: when the program's end of the socket is closed everywhere, the server ends, and every box
with it. So does a box whose answer socket is closed: nobody waits for it any more.

    a request      _Running: the command runs                answer socket closed: the box is ended and removed
    its end        gone; the box is held                     KEEP: let go of; closed without: removed
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import time

from jubako.boxes.commands.first import Program
from jubako.boxes.commands.make import make_new_box, read_box_facts
from jubako.boxes.commands.report import describe_error, write_report
from jubako.boxes.keeping.kept_record import is_kept_box
from jubako.boxes.nesting import MARK
from jubako.boxes.serving.messages import GONE, KEEP, SIGNAL, Refused, Started, receive, send
from jubako.boxes.serving.remover import Remover
from jubako.boxes.serving.stock import Stock
from jubako.boxes.serving.supervised import SupervisedBox, needs_supervisor, start_supervised
from jubako.boxes.state import StateRoot
from jubako.errors import HostError, JubakoError
from jubako.kernel.capabilities import capability_number, capget, keep_capabilities
from jubako.kernel.children import fork_child, wait_for
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.namespaces import CLONE_NEWPID
from jubako.kernel.process import set_process_name
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.boxes.serving.messages import Request
    from jubako.boxes.serving.ready import ReadyBox

__all__ = ["main"]

_KILLED = "the process that sees to the box was killed, and everything in the box with it"
_CAP_SYS_ADMIN = capability_number("CAP_SYS_ADMIN")


@record(frozen=False)
class _Running:
    """A box that a command was started in, until it is let go of."""

    ready: ReadyBox | SupervisedBox
    answer: socket.socket
    has_asker: bool = True  # someone waits for the answer, or holds the box
    is_gone: bool = False  # its first process was reaped
    is_kept: bool = False


class _Server:
    def __init__(self, requests: socket.socket, open_files: tuple[int, int], program: str) -> None:
        self._requests = requests
        self._open_files = open_files
        self._remover = Remover()  # first, so that it holds nothing of what comes later
        self._stock = Stock(open_files, program)
        self._by_fd: dict[int, _Running] = {}
        self._poll = select.poll()
        self._poll.register(requests, select.POLLIN)

    def serve(self) -> None:
        """Serves until the program is gone."""
        while True:
            events = dict(self._poll.poll(0 if self._stock.lacks else None))
            asked = events.pop(self._requests.fileno(), 0)
            for fd in events:
                self._attend(fd)
            if asked and not self._take_request():
                return
            if not asked and not events:
                self._stock.fill()

    def close(self) -> None:
        """Ends all boxes, and removes those that nobody has kept."""
        self._stock.clear()
        running = list({id(one): one for one in self._by_fd.values()}.values())
        for one in running:
            if not one.is_gone:
                one.ready.kill()
        for one in running:
            self._let_go(one)
            if not one.is_gone:
                self._bury(one)
        self._remover.close()

    def _take_request(self) -> bool:
        """Starts what was asked for; False if nothing will be asked for any more."""
        try:
            request, (fd, *stdio) = receive(self._requests)
        except EOFError:
            return False
        answer = socket.socket(fileno=fd)
        try:
            self._start(request, answer, stdio)
        except (JubakoError, OSError) as error:
            _refuse(answer, error)
        finally:
            for one in stdio:
                os.close(one)
        return True

    def _start(self, request: Request, answer: socket.socket, stdio: list[int]) -> None:
        if needs_supervisor(request.box):
            self._start_supervised(request, answer, stdio)
            return
        started_ns = time.time_ns()
        ready = self._stock.take(request)
        record = ready.new.describe(request.argv, request.cwd, started_ns)
        self._attend_to(_Running(ready, answer))
        try:
            send(answer, Started(record, tuple(ready.facts), ready.new.copies))
            ready.start(_program_of(request, ready.new.id, stdio), answer.fileno())
        except OSError:  # who asked is gone, or the box, which `_attend` will see
            return

    def _start_supervised(self, request: Request, answer: socket.socket, stdio: list[int]) -> None:
        state = StateRoot(request.state)
        new = make_new_box(request.box, state, read_box_facts(state, request.environment, request.cwd))
        try:
            program = _program_of(request, new.id, stdio)
            box = start_supervised(new, request, program, answer.fileno(), self._open_files)
        except BaseException:
            new.abandon()
            raise
        self._attend_to(_Running(box, answer))

    def _attend_to(self, running: _Running) -> None:
        for fd in (running.ready.pidfd, running.answer.fileno()):
            self._by_fd[fd] = running
            self._poll.register(fd, select.POLLIN)

    def _attend(self, fd: int) -> None:
        running = self._by_fd.get(fd)
        if running is None:
            return
        if fd == running.ready.pidfd and not running.is_gone:
            self._bury(running)
        elif running.has_asker:
            self._hear(running)

    def _hear(self, running: _Running) -> None:
        """Does what the asker says of the box, or sees that it is not there any more."""
        try:
            word = running.answer.recv(64, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        if word.startswith(SIGNAL):
            if not running.is_gone:
                running.ready.signal(int(word.removeprefix(SIGNAL)))
            return
        running.is_kept = word == KEEP
        if not running.is_gone:
            running.ready.kill()
        self._let_go(running)

    def _bury(self, running: _Running) -> None:
        """The first process has ended, and its mounts are gone."""
        fd = running.ready.pidfd
        self._poll.unregister(fd)
        del self._by_fd[fd]
        running.is_gone = True
        status = running.ready.bury()
        if not running.has_asker:
            self._remove(running)
            return
        try:
            if status and isinstance(running.ready, SupervisedBox):
                send(running.answer, Refused(tuple(describe_error(HostError(_KILLED)))))
            write_report(running.answer.fileno(), [(GONE, str(status))])
        except OSError:  # nobody waits any more, which `_hear` will see
            return

    def _let_go(self, running: _Running) -> None:
        """Nobody holds the box any more."""
        if not running.has_asker:
            return
        running.has_asker = False
        fd = running.answer.fileno()
        self._poll.unregister(fd)
        del self._by_fd[fd]
        if running.is_gone:
            self._remove(running)
        if not running.is_kept:
            running.answer.close()

    def _remove(self, running: _Running) -> None:
        new = running.ready.new
        if not running.is_kept and not is_kept_box(new.directory):
            self._remover.remove(new)
            return
        os.close(new.lock)
        if not running.is_kept:
            return
        with running.answer as answer:
            try:
                answer.send(KEEP)
            except OSError:  # whoever kept it is gone, the box is there
                return


def _program_of(request: Request, box_id: str, stdio: list[int]) -> Program:
    environment = {**request.environment, MARK: box_id}
    return Program(request.argv, request.cwd, environment, (stdio[0], stdio[1], stdio[2]), user=request.user)


def _refuse(answer: socket.socket, error: JubakoError | OSError) -> None:
    with answer:
        try:
            send(answer, Refused(tuple(describe_error(error))))
        except OSError:  # nobody waits any more
            return


def main(fd: str, program: str) -> None:
    """What the server's interpreter runs; `fd` is the number of its end of the socket for requests, `program` the
    compiled first process of boxes, or ""."""
    set_process_name("jubako-boxes")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its program decides what a Ctrl-C means
    own_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (own_limit[1], own_limit[1]))  # a box takes three descriptors
    with socket.socket(fileno=int(fd)) as requests:

        def serve() -> int:
            server = _Server(requests, own_limit, program)
            try:
                server.serve()
            finally:
                server.close()
            return 0

        if capget().effective >> _CAP_SYS_ADMIN & 1:
            serve()
            return
        # In a user namespace, and in a pid namespace that belongs to it: without that, only one box could be made.
        enter_user_namespace(CLONE_NEWPID)
        keep_capabilities()  # those it has in there, across the execution of the compiled first process
        child = fork_child(serve)
    wait_for(child)
