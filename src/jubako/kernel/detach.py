"""A process that outlives the one that started it: without its terminal, its session, its parent and its descriptors.

Forked twice, so that it is a child of init's (or of a subreaper's) and can never get a terminal again; see daemon(7).
"""

from __future__ import annotations

import gc
import os
import sys

from jubako.kernel.children import close_descriptors_from
from jubako.kernel.process import block_signals, restore_signals
from jubako.kernel.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["start_detached"]

_STATUS_OF_CRASH = 70  # EX_SOFTWARE in sysexits.h
# What a shell or nohup may have had ignored, and a program may have handlers for: here they do what they do by default.
_RESET = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2)


def start_detached(run: Callable[[], int], *, keep: Iterable[int] = ()) -> None:
    """Starts a process that runs `run`, with /dev/null as stdin, stdout and stderr, at /, and exits with its answer.

    Of the caller's other descriptors it has those in `keep` alone. Signals are as they were before any program set
    handlers. Raises OSError, EAGAIN where there are as many processes as there may be. An exception that leaves `run`
    becomes status 70; there is nobody to print it for.
    """
    kept = tuple(keep)
    sys.stdout.flush()
    sys.stderr.flush()
    mask = block_signals()  # no handler of the caller's may run in a child
    try:
        pid = os.fork()
        if pid == 0:
            status = _STATUS_OF_CRASH
            try:
                os.setsid()
                if os.fork() == 0:
                    _settle(kept, mask)
                    status = run()
                else:
                    status = 0
            except OSError as error:
                status = error.errno or _STATUS_OF_CRASH
            finally:
                os._exit(status & 0xFF)
    finally:
        restore_signals(mask)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise OSError(status, f"fork: {os.strerror(status)}")


def _settle(kept: tuple[int, ...], mask: bytes) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    close_descriptors_from(3, keep=kept)
    os.chdir("/")
    for number in _RESET:
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    gc.freeze()  # a collection would copy every page the caller's objects are on
    restore_signals(mask)
