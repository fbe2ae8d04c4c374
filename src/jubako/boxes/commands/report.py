"""What the first process of a command's box has to say to who started it: facts as pairs of words, up a pipe or socket.

Nothing may be imported where the view may hide Python, so a fact is two strings, each ended by a null byte.

    note TEXT                               what the machine did not allow
    kind CLASS, message TEXT, hint TEXT     an error, to be raised where the box was asked for
    cwd PATH, cwd_errno NUMBER              the same, for a working directory that cannot be entered
    started                                 the command is about to run: what comes now is not to be trusted
    exec_errno NUMBER                       why it could not be executed
    peak KILOBYTES                          the memory of the largest process that was waited for
"""

from __future__ import annotations

import os

from jubako.boxes.commands.confine import NotStarted
from jubako.boxes.commands.shortage import find_cure
from jubako.errors import BugError, ConflictError, HostError, InputError, JubakoError, WorkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Facts: TypeAlias = "list[tuple[str, str]]"

__all__ = [
    "SETUP_FAILED",
    "STARTED",
    "Reporting",
    "describe_error",
    "explain_execution",
    "raise_reported",
    "read_report",
    "write_report",
]

SETUP_FAILED = 125
STARTED = "started"
_CWD_HINT = (
    "Start from a directory that the box shows (not one of /run, /dev, or jubako's own; with --profile strict, no home)"
    ", or share it: --bind DIR."
)
_ERRORS: dict[str, type[JubakoError]] = {
    kind.__name__: kind for kind in (BugError, ConflictError, HostError, InputError, WorkError)
}


class Reporting:
    """Sends what goes wrong in a child up to who can raise it, and ends the child."""

    def __init__(self, report: int) -> None:
        self._report = report

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, Exception):  # the fork boundary: nothing may unwind into the caller's frames
            write_report(self._report, describe_error(error))
            os._exit(SETUP_FAILED)


def describe_error(error: Exception) -> Facts:
    """The facts that `raise_reported` makes an error like `error` of."""
    if isinstance(error, JubakoError):
        kind = next(name for name, kind in _ERRORS.items() if isinstance(error, kind))
        message, hint = error.message, error.hint
    elif isinstance(error, OSError):
        kind, message, hint = "HostError", f"cannot make the box: {error}", find_cure(error)
    else:
        kind, message, hint = "BugError", _trace(error), ""
    return [("kind", kind), ("message", message), ("hint", hint)]


def _trace(error: Exception) -> str:
    try:
        import traceback  # 3 ms to import, for our own mistakes alone
    except ImportError:  # the view, which is mounted already, hides Python
        return f"{type(error).__name__}: {error}"
    return "".join(traceback.format_exception(error))


def write_report(report: int, facts: Sequence[tuple[str, str]]) -> None:
    """Sends `facts` in one piece."""
    if facts:
        os.write(report, b"".join(os.fsencode(word.replace("\0", "?")) + b"\0" for fact in facts for word in fact))


def read_report(raw: bytes) -> Facts:
    """The keys and values sent. Not to be trusted: a command with CAP_SYS_PTRACE can reach the pipe by /proc/1/fd."""
    words = [os.fsdecode(word) for word in raw.split(b"\0")[:-1]]
    return list(zip(words[::2], words[1::2], strict=False))


def raise_reported(facts: Sequence[tuple[str, str]]) -> None:
    """Raises the error among `facts`, if there is one: a HostError from before the command as NotStarted."""
    said = dict(facts)
    if "cwd" in said:
        why = os.strerror(_parse(said.get("cwd_errno", "")))
        raise InputError(f"the working directory {said['cwd']} cannot be entered in the box: {why}", hint=_CWD_HINT)
    if "kind" not in said:
        return
    kind = _ERRORS.get(said["kind"], BugError)
    if kind is HostError and STARTED not in said:
        kind = NotStarted
    raise kind(said.get("message", ""), hint=said.get("hint", ""))


def explain_execution(facts: Sequence[tuple[str, str]], name: str) -> str:
    """Why the program `name` could not be executed, if that is among `facts`; else ""."""
    code = dict(facts).get("exec_errno", "")
    return f"cannot run {name!r}: {os.strerror(_parse(code))}" if code else ""


def _parse(number: str) -> int:
    return int(number) if number.isdecimal() else 0
