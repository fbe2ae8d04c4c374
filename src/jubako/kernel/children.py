"""Child processes: started so that they cannot outlive their parent, waited for, and reaped to the last one.

Everything here is for single-threaded processes: a forked child runs Python code, and the parent-death signal follows
the thread that forked. That signal is forgotten when a process enters a new user namespace or changes its ids.
"""

from __future__ import annotations

import errno
import os
import select
import sys

from jubako.kernel.files import close_range
from jubako.kernel.process import block_signals, pidfd_open, restore_signals, set_pdeathsig
from jubako.kernel.signals import signal
from jubako.kernel.syscalls import fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

__all__ = [
    "close_descriptors_from",
    "exit_status",
    "fork_child",
    "reap_all",
    "reap_until",
    "wait_for",
    "wait_for_pidfd",
]

_STATUS_OF_CRASH = 70  # EX_SOFTWARE in sysexits.h
_MAX_FD = 0x7FFFFFFF


def fork_child(run: Callable[[], int], *, death_signal: int = signal.SIGKILL) -> int:
    """The pid of a new child that runs `run` and exits with what it returns.

    The child gets `death_signal` when this thread ends, also if that happens before the child could ask for it, and
    also across pid namespaces, where the parent's pid reads 0. It never returns into the caller's code: an exception
    that leaves `run` is printed on stderr and becomes status 70. Buffers of stdout and stderr are flushed before the
    fork, and the child's before it exits; exit handlers do not run. Raises OSError, EAGAIN where there are as many
    processes as there may be. SIGCHLD is not ignored any more afterwards.
    """
    _hear_of_children()
    sys.stdout.flush()
    sys.stderr.flush()
    # With signals blocked no handler can raise between here and the child's fork boundary.
    mask = block_signals()
    try:
        parent = pidfd_open(os.getpid())
        try:
            # Made here, not in the child: each page the child is the first to write is copied, at 3 us a page.
            death_of_parent = select.poll()
            death_of_parent.register(parent, select.POLLIN)
            pid = _fork()
            if pid == 0:
                _run_as_child(run, parent, death_of_parent, death_signal, mask)
        finally:
            os.close(parent)
    finally:
        restore_signals(mask)
    return pid


def wait_for(pid: int) -> int:
    """Waits for the child `pid` to end and returns its status as a shell shows it."""
    return exit_status(os.waitpid(pid, 0)[1])


def wait_for_pidfd(pidfd: int, timeout_s: float | None = None) -> bool:
    """True when the process `pidfd` stands for has ended (it still wants reaping), False if `timeout_s` ran out."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000))


def exit_status(wait_status: int) -> int:
    """What a shell's $? shows for a status of waitpid(2): the exit code, or 128 plus the number of the signal."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


def reap_all() -> dict[int, int]:
    """Waits until this process has no child left; the statuses as a shell shows them, by pid."""
    statuses: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return statuses
        statuses[pid] = exit_status(status)


def reap_until(pid: int) -> int:
    """Reaps whatever ends until `pid` does, and returns that one's status as a shell shows it.

    What the first process of a pid namespace, or a subreaper, does for the orphans it inherits.
    """
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return exit_status(status)


def close_descriptors_from(first: int, *, keep: Iterable[int] = ()) -> None:
    """Closes every descriptor from `first` on but those in `keep`."""
    for low, high in _gaps(first, sorted({fd for fd in keep if fd >= first})):
        try:
            close_range(low, high)
        except OSError as error:
            if error.errno != errno.ENOSYS:  # Linux before 5.9
                raise
            _close_listed(low, high)


def _fork() -> int:
    try:
        return os.fork()
    except OSError as error:
        fail(error.errno or 0, "fork")


def _hear_of_children() -> None:
    """Ends the ignoring of SIGCHLD, which a program inherits from the one that started it: the kernel would reap this
    process's children, and waitpid(2) would say that there are none."""
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _gaps(first: int, kept: list[int]) -> list[tuple[int, int]]:
    gaps = []
    for fd in kept:
        if first < fd:
            gaps.append((first, fd - 1))
        first = fd + 1
    return [*gaps, (first, _MAX_FD)]


def _close_listed(low: int, high: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        if low <= int(name) <= high:
            try:
                os.close(int(name))
            except OSError as error:
                if error.errno != errno.EBADF:  # the descriptor that listed them is gone already
                    raise


def _run_as_child(
    run: Callable[[], int], parent: int, death_of_parent: select.poll, death_signal: int, mask: bytes
) -> NoReturn:
    status = _STATUS_OF_CRASH
    try:
        set_pdeathsig(death_signal)
        if death_of_parent.poll(0):
            os._exit(_STATUS_OF_CRASH)  # the parent ended before the signal was asked for; nobody waits
        os.close(parent)
        restore_signals(mask)
        status = run()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001  the fork boundary: nothing may unwind into the parent's frames
        import traceback  # 3 ms to import, for our own mistakes alone

        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status & 0xFF)
