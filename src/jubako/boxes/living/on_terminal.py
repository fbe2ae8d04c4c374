"""A command in a box that is made for it alone, on a terminal of that box's: shells have job control there.

    caller ──forks──> talker: carries keys from this terminal to the box's, and output back; ends with the program
      └─ waits for the box, as without a terminal

pid 1 of the box starts the program and hands the master of its terminal to the talker (`server`).
"""

from __future__ import annotations

import os
import socket

from jubako.boxes.living.attach import attach
from jubako.boxes.living.control import Gone, Line
from jubako.boxes.living.program import Program as Seen
from jubako.boxes.living.server import Server
from jubako.boxes.living.spawning import NotStartable, Order
from jubako.boxes.living.terminal_size import read_size
from jubako.kernel.children import fork_child, wait_for
from jubako.kernel.signals import signal
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from jubako.boxes.commands.first import Program
    from jubako.boxes.resources.restrain import Restraint

__all__ = ["OnTerminal", "is_on_terminal"]

_HARMLESS = int(signal.SIGCONT)  # the talker puts the terminal back, and so outlives who waits for the box


def is_on_terminal() -> bool:
    """True if stdin, stdout and stderr of this process are terminals."""
    return all(os.isatty(fd) for fd in range(3))


class OnTerminal:
    """Use it with `with`, and give `put` to what runs a program in a box. The talker ends with the block."""

    def __enter__(self) -> OnTerminal:
        ours, theirs = socket.socketpair()
        self._theirs = theirs
        try:
            self._talker = fork_child(lambda: _talk(ours, theirs), death_signal=_HARMLESS)
        except BaseException:
            theirs.close()
            raise
        finally:
            ours.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._theirs.close()  # with which the talker ends, also if no box came to be
        wait_for(self._talker)

    def put(self, program: Program) -> Program:
        """The program, to be started on a terminal of its box's."""
        connection = self._theirs.fileno()

        def inside(program: Program, restraint: Restraint | None) -> int:
            server = Server(None, "command", restraint)
            argv, size = tuple(program.argv), read_size(0)
            order = Order(argv, program.environment, program.cwd, _read_umask(), program.user, size)
            try:
                server.start_main_on_terminal(order, socket.socket(fileno=connection))
            except NotStartable as error:
                if isinstance(error.__cause__, OSError):
                    raise error.__cause__ from None
                raise
            server.serve()
            return server.ending[1] or 0

        return replace(program, inside=inside, kept=(connection,))


def _talk(ours: socket.socket, theirs: socket.socket) -> int:
    """The talker: waits for the master, and carries on until the program has ended."""
    theirs.close()
    with Line(ours) as line:
        try:
            program = Seen(line, int(line.hear()["pid"]))
            program.terminal = line.take_fd()
        except Gone:  # the box did not come to be, which the one who waits for it says
            return 0
        with program:
            attach(program)
    return 0


def _read_umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
