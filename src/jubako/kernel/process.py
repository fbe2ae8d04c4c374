"""What a process may be asked about itself and others: pidfds, prctl switches, kills. One thin function per call.

See pidfd_open(2), prctl(2). Starting and reaping children is `children`.
"""

from __future__ import annotations

import ctypes
import os

from jubako.kernel.signals import signal
from jubako.kernel.syscalls import call

__all__ = [
    "block_signals",
    "kill_namespace",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "restore_signals",
    "set_child_subreaper",
    "set_dumpable",
    "set_no_new_privs",
    "set_pdeathsig",
    "set_process_name",
    "signal_if_alive",
]

_SIG_BLOCK = 0
_SIG_SETMASK = 2
_SIGNAL_SET_BYTES = 8
_ALL_SIGNALS = b"\xff" * _SIGNAL_SET_BYTES

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38


def pidfd_open(pid: int) -> int:
    """A descriptor (close-on-exec) of the process `pid`, readable once it ended; it never comes to mean another one."""
    return call("pidfd_open", pid, 0)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """A duplicate (close-on-exec) of descriptor `fd` of the process `pidfd` stands for; as permitted as tracing it."""
    return call("pidfd_getfd", pidfd, fd, 0)


def pidfd_send_signal(pidfd: int, signal_number: int) -> None:
    """Sends a signal to the process `pidfd` stands for; ProcessLookupError once it was reaped."""
    call("pidfd_send_signal", pidfd, signal_number, None, 0)


def signal_if_alive(pidfd: int, signal_number: int) -> None:
    """As `pidfd_send_signal`; nothing happens if the process has ended."""
    try:
        pidfd_send_signal(pidfd, signal_number)
    except ProcessLookupError:
        return


def block_signals() -> bytes:
    """Blocks every signal of this thread that can be; the mask before, for `restore_signals`.

    `signal.pthread_sigmask` does the same in a hundred times the time, as it makes an object of every signal.
    """
    before = ctypes.create_string_buffer(_SIGNAL_SET_BYTES)
    call("rt_sigprocmask", _SIG_BLOCK, _ALL_SIGNALS, before, _SIGNAL_SET_BYTES)
    return before.raw


def restore_signals(mask: bytes) -> None:
    """Sets the mask of blocked signals to one that `block_signals` gave."""
    call("rt_sigprocmask", _SIG_SETMASK, mask, None, _SIGNAL_SET_BYTES)


def set_pdeathsig(signal_number: int = signal.SIGKILL) -> None:
    """Sends this process `signal_number` when the thread that forked it ends.

    A parent that ended before this call is not noticed: compare `os.getppid()` afterwards, or use `children.spawn`.
    Cleared by executing a set-id program and by changing ids.
    """
    call("prctl", _PR_SET_PDEATHSIG, signal_number)


def set_no_new_privs() -> None:
    """Forbids this process and its children to gain privileges by executing a program; cannot be taken back."""
    call("prctl", _PR_SET_NO_NEW_PRIVS, 1)


def set_dumpable(*, dumpable: bool) -> None:
    """Says whether others of the same user may trace this process and read its /proc files and memory.

    While it is off, /proc/self belongs to root: write id maps before switching it off.
    """
    call("prctl", _PR_SET_DUMPABLE, int(dumpable))


def set_child_subreaper() -> None:
    """Makes this process the parent of every orphan among its descendants, so that it can reap them."""
    call("prctl", _PR_SET_CHILD_SUBREAPER, 1)


def set_process_name(name: str) -> None:
    """Sets the name `ps` shows for this thread; the kernel keeps the first 15 bytes."""
    call("prctl", _PR_SET_NAME, os.fsencode(name) + b"\0")


def kill_namespace(pidfd: int) -> None:
    """Kills the first process of a pid namespace, and with it, before it can be reaped, everything in the namespace.

    Succeeds if it ended before. When the first process has been waited for, nothing of the namespace lives any more.
    """
    signal_if_alive(pidfd, signal.SIGKILL)
