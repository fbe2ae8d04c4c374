"""Luigi's lock on a command line: the same one runs `lock_size` times at most on a machine.

A file in the lock directory, named by the MD5 of the command line, holds the pids of those who run it, one a line. A
pid counts while a process with this pid and this very command line lives, so nothing has to be cleaned up. Reading and
writing it happens under a flock: two that start at once would otherwise both find nobody.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
from contextlib import suppress

__all__ = ["PidLockAlreadyTakenExit", "acquire_for", "get_info", "getpcmd"]


class PidLockAlreadyTakenExit(SystemExit):
    """The same command line runs already, as often as it may."""


def getpcmd(pid: int) -> str:
    """The command line of a process, its words joined by spaces; a stand-in where it can't be read."""
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="surrogateescape") as file:
            return file.read().replace("\0", " ").rstrip()
    except OSError:
        return f"[PROCESS_WITH_PID={pid}]"


def get_info(pid_dir: str, my_pid: int | None = None) -> tuple[int, str, str]:
    """The pid (this process's by default), its command line, and the file of that command line in `pid_dir`."""
    pid = os.getpid() if my_pid is None else my_pid
    command = getpcmd(pid)
    digest = hashlib.md5(command.encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()
    return pid, command, os.path.join(pid_dir, f"{digest}.pid")


def acquire_for(pid_dir: str, num_available: int = 1, kill_signal: int | None = None) -> bool:
    """Notes that this process runs its command line; False if `num_available` others do already.

    With `kill_signal` the others are sent that signal, and one more of them is allowed while they wind down.
    """
    pid, command, path = get_info(pid_dir)
    with suppress(FileExistsError):
        os.mkdir(pid_dir, 0o700)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "r+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
        others = {int(line) for line in file if line.strip().isdecimal()} - {pid}
        others = {other for other in others if getpcmd(other) == command}
        if kill_signal is not None:
            for other in others:
                with suppress(ProcessLookupError):
                    os.kill(other, signal.Signals(kill_signal))
            num_available += 1
        if len(others) >= num_available:
            return False
        file.seek(0)
        file.truncate()
        file.writelines(f"{each}\n" for each in sorted(others | {pid}))
    return True
