"""The program that replaces this process at the end, found and started as execvp(3) does, and how one mirrors another.

What Python changes of a process is undone: the signals it ignores are as they were.
"""

from __future__ import annotations

import errno
import os

from jubako.errors import WorkError
from jubako.kernel.process import set_dumpable
from jubako.kernel.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["NOT_EXECUTABLE", "NOT_FOUND", "NotExecuted", "end_like", "execute", "shell"]

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # as shells say it
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_DEFAULT_PATH = "/bin:/usr/bin"


class NotExecuted(WorkError):
    """The program could not be started; `exit_status` is what a shell would end with."""

    def __init__(self, message: str, *, exit_status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_status = exit_status


def shell() -> tuple[str, list[str]]:
    """The user's shell and the arguments that make it a login shell: what runs if no program is named."""
    path = os.environ.get("SHELL") or "/bin/sh"
    return path, [f"-{os.path.basename(path)}"]


def execute(command: Sequence[str]) -> NoReturn:
    """Replaces this process with `command`, or with the user's shell if that is empty. Raises NotExecuted."""
    file, arguments = (command[0], list(command)) if command else shell()
    for number in _IGNORED_BY_PYTHON:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    error = _execute_one_of(_candidates(file), arguments) if arguments[0] else _absent()
    is_missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
    hint = "It is looked for inside, after a change of root or of mounts." if is_missing else ""
    raise NotExecuted(
        f"cannot run {file!r}: execve: {error.strerror}",
        exit_status=NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE,
        hint=hint,
    ) from error


def end_like(wait_status: int) -> int:
    """The exit code of a child that has ended so; if a signal ended it, this process ends by the same one."""
    code = os.waitstatus_to_exitcode(wait_status)
    if code >= 0:
        return code
    set_dumpable(dumpable=False)  # the child's core is worth having, this process's is not
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [-code])
    os.kill(os.getpid(), -code)
    return 128 - code


def _candidates(file: str) -> list[str]:
    if "/" in file or not file:
        return [file]
    return [os.path.join(folder, file) for folder in os.environ.get("PATH", _DEFAULT_PATH).split(":")]


def _execute_one_of(paths: Sequence[str], arguments: list[str]) -> OSError:
    """Why none of these files could be executed: a refusal goes before a file that is not there."""
    refused: OSError | None = None
    absent = _absent()
    for path in paths:
        try:
            os.execv(path, arguments)
        except OSError as error:
            if error.errno == errno.ENOEXEC:  # a script that names no interpreter
                return _execute_script(path, arguments)
            if error.errno == errno.EACCES:
                refused = refused or error
            elif error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT):
                return error
            else:
                absent = error
    return refused or absent


def _absent() -> OSError:
    return OSError(errno.ENOENT, os.strerror(errno.ENOENT))


def _execute_script(path: str, arguments: list[str]) -> OSError:
    try:
        os.execv("/bin/sh", ["/bin/sh", path, *arguments[1:]])
    except OSError as error:
        return error
    raise AssertionError("unreachable: execv returns by an error alone")
