"""Luigi's lock on a command line: the same one runs `lock_size` times at most on a machine.

A file in the lock directory, named by the MD5 of the command line, holds the pids of those who run it, one a line. A
pid counts while a process with this pid and this very command line lives, so nothing has to be cleaned up. Reading and
writing it happens under a flock: two that start at once would otherwise both find nobody.

The lock directory is private, as in Luigi. Where it belongs to another user (the default one is the same for all), this
user's is beside it, with the user's number at the end of its name.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import stat
from contextlib import suppress

from jubako.errors import HostError

__all__ = ["PidLockAlreadyTakenExit", "acquire_for", "get_info", "getpcmd"]

_HINT = "--lock-pid-dir names another folder; --no-lock does without the lock"


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
    Raises HostError where neither the directory nor the one beside it can be written.
    """
    pid, command, path = get_info(pid_dir)
    with os.fdopen(_open(pid_dir, os.path.basename(path)), "r+", encoding="ascii") as file:
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


def _open(pid_dir: str, name: str) -> int:
    own = f"{pid_dir.rstrip('/')}.{os.geteuid()}"
    for folder in (pid_dir, own):
        try:
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            if folder == own:
                # Anybody could have put something of this name into a folder for all, to have a file of ours elsewhere.
                found = os.lstat(own)
                if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                    break
            return os.open(f"{folder}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except PermissionError:
            continue
        except OSError as error:
            raise HostError(
                f"the lock of this command line cannot be made in {folder}: {error.strerror}", hint=_HINT
            ) from error
    raise HostError(f"user {os.geteuid()} may not write the lock of this command line in {pid_dir}", hint=_HINT)
