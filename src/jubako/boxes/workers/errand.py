"""A child of the zygote's on its way into a view: sent there, waited for, or let go. What becomes of it: `watch`."""

from __future__ import annotations

import os
import select
import socket

from jubako.boxes.inside import FRAME_HEADER
from jubako.boxes.workers.child import AWAITED, UNAWAITED
from jubako.boxes.workers.zygote import DONE_FIELDS
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.boxes.links import Links

__all__ = ["NOTICE_BYTES", "Errand", "ZygoteGone", "ZygoteLink"]

NOTICE_BYTES = FRAME_HEADER.size + DONE_FIELDS.size  # that a child has ended


class ZygoteGone(Exception):
    """The zygote has ended, so no job can run any more."""


@record(frozen=False)
class ZygoteLink:
    """The zygote, as the foreman knows it."""

    links: Links
    command: int = 1  # the number of the command that runs, or will run next, as the zygote counts them

    def begin(self, namespace_fd: int, *, is_awaited: bool = False) -> Errand:
        """Sends the zygote's next child into the view `namespace_fd`, where it waits for what to do.

        `is_awaited`: it says when it is there, for `Errand.await_child`. Raises ZygoteGone.
        """
        errand = Errand(self, *socket.socketpair(), *os.pipe2(os.O_CLOEXEC))
        try:
            fds = [namespace_fd, errand.child_line.fileno(), errand.child_output_fd]
            socket.send_fds(self.links.commands, [AWAITED if is_awaited else UNAWAITED], fds)
        except OSError as error:
            errand.close()
            raise ZygoteGone(str(error)) from error
        return errand


@record(frozen=False)
class Errand:
    """A child that was sent into a view. Ended by `watch.watch` or `abandon`, once.

    The child's ends stay open here as well: their closing says nothing that the zygote does not say, and each would
    wake this process.
    """

    zygote: ZygoteLink
    line: socket.socket
    child_line: socket.socket
    output_fd: int
    child_output_fd: int

    def await_child(self) -> None:
        """Waits until the child is there, or has ended already. The zygote may not have forked it yet when `begin`
        returns, and one that nobody finds cannot be restrained. Raises ZygoteGone."""
        control = self.zygote.links.control
        poll = select.poll()
        poll.register(self.line, select.POLLIN)
        poll.register(control, select.POLLIN)
        while self.line.fileno() not in dict(poll.poll()):
            notice = control.recv(NOTICE_BYTES, socket.MSG_PEEK | socket.MSG_WAITALL)
            if len(notice) < NOTICE_BYTES:
                raise ZygoteGone("it has ended")
            if _took_command(notice):
                return  # what is said of it is for who watches it
            control.recv(NOTICE_BYTES, socket.MSG_WAITALL)  # of one before it, that had no command
        self.line.recv(1)

    def abandon(self) -> None:
        """Lets the child end without having done anything. Raises ZygoteGone."""
        self.close()
        took = False
        while not took:
            notice = self.zygote.links.control.recv(NOTICE_BYTES, socket.MSG_WAITALL)
            if len(notice) < NOTICE_BYTES:
                raise ZygoteGone("it has ended")
            took = _took_command(notice)
        self.zygote.command += 1

    def close(self) -> None:
        self.line.close()
        self.child_line.close()
        for fd in (self.output_fd, self.child_output_fd):
            os.close(fd)


def _took_command(notice: bytes) -> bool:
    took, *_ = DONE_FIELDS.unpack_from(notice, FRAME_HEADER.size)
    return bool(took)
