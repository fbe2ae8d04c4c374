"""A child of the box server that removes what boxes leave: a file system may take milliseconds for a directory (one
that tells its disk of every block it frees, say), in which the server would answer nobody.
"""

from __future__ import annotations

import os
import socket

from jubako.boxes.keeping.kept import remove_box
from jubako.boxes.serving.messages import receive_packet
from jubako.kernel.children import close_descriptors_from, fork_child, wait_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.boxes.commands.make import NewBox

__all__ = ["Remover"]


class Remover:
    """Removes boxes in the order they are given. One per server; ends with it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._pid = fork_child(lambda: _remove_all(theirs))

    def remove(self, new: NewBox) -> None:
        """Has the directory of `new` removed, and ends the hold on it. If that fails, a later start does it."""
        try:
            socket.send_fds(self._socket, [os.fsencode(new.directory)], [new.lock])
        except OSError:  # the child was killed
            new.drop()
        else:
            os.close(new.lock)

    def close(self) -> None:
        """Waits until all is removed."""
        self._socket.close()
        wait_for(self._pid)


def _remove_all(orders: socket.socket) -> int:
    close_descriptors_from(3, keep=(orders.fileno(),))
    while True:
        path, fds = receive_packet(orders)
        if not path:
            return 0
        try:
            remove_box(os.fsdecode(path))
        except OSError:  # a later start sweeps it, and says what is wrong
            continue
        finally:
            for fd in fds:
                os.close(fd)
