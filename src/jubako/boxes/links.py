"""What the processes of one worker have from each other: sockets, an exit status, what is left of a view.

`supervisor` starts them and draws who ends whom.
"""

from __future__ import annotations

import os
import socket

from jubako.records import record

__all__ = ["UNFIT", "Dead", "Grave", "Links"]

UNFIT = 75  # exit status of a foreman whose zygote must not be forked; EX_TEMPFAIL in sysexits.h


@record
class Links:
    """The sockets between foreman and zygote. Each process closes the ends that are not its own."""

    commands: socket.socket  # packets with descriptors; at the zygote's end its next child reads them
    control: socket.socket  # to the zygote: signals to be sent; from it: frames

    def close(self) -> None:
        self.commands.close()
        self.control.close()


@record
class Dead:
    """What is left of a view: descriptors that hold its mounts, and a directory on disk, "" if it has none."""

    fds: tuple[int, ...]
    directory: str = ""


@record
class Grave:
    """Where the foreman leaves what nobody needs any more: the kernel lets whoever takes mounts away wait."""

    connection: socket.socket

    def bury(self, dead: Dead) -> None:
        """Has `dead` taken away elsewhere; its descriptors are closed here in any case."""
        try:
            socket.send_fds(self.connection, [b"." + os.fsencode(dead.directory)], dead.fds)
        except OSError:
            pass  # the supervisor is ending, and so is this process
        finally:
            for fd in dead.fds:
                os.close(fd)
