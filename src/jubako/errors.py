"""The error tree. The class says who must act; the message is one sentence; the hint is the next thing to try.

Nothing here prints or exits: `jubako.cli` alone turns an error into a line on a terminal and an exit code.
A failing system call stays an `OSError` where it happens; the layer that knows what the call was for wraps it.

    JubakoError
    ├── InputError      you: a wrong parameter, an unknown task, a pipeline that does not load
    ├── HostError       the machine: a kernel without overlay, a full disk, a folder that cannot be written
    ├── ConflictError   another run or program changed what this one was about to change
    ├── WorkError       the other side: a task, a command, a guest failed
    └── BugError        us: an invariant that cannot be broken was broken
"""

from __future__ import annotations

__all__ = ["BugError", "ConflictError", "HostError", "InputError", "JubakoError", "WorkError"]


class JubakoError(Exception):
    """Base of every error jubako raises on purpose.

    `message` is one sentence with names and numbers; `hint` is the next thing to try, or "".
    Subclasses that carry facts add them as attributes.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class InputError(JubakoError):
    """What was asked for cannot be understood or is not allowed; asking differently helps."""


class HostError(JubakoError):
    """This machine cannot do what was asked (kernel, disk, permission); `jubako doctor` says why."""


class ConflictError(JubakoError):
    """Something changed between the start of a run and its publishing; nothing of the run was published.

    `is_repeatable` is False where running again at once would replace what another program has just put there.
    """

    def __init__(self, message: str, *, hint: str = "", is_repeatable: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.is_repeatable = is_repeatable


class WorkError(JubakoError):
    """A task or a command that jubako ran did not succeed."""


class BugError(JubakoError):
    """An invariant of jubako itself does not hold; please report it with the traceback (`--debug`)."""
