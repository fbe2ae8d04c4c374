"""What a process does that becomes a program, done in a child; what goes wrong there is raised here."""

from __future__ import annotations

import os

from jubako.boxes.namespaces.execute import NotExecuted
from jubako.errors import BugError, HostError, InputError, JubakoError
from jubako.kernel.children import exit_status, fork_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_in_child"]

_SETUP_FAILED = 1
_REPORT_BYTES = 1 << 16


def run_in_child(become: Callable[[], int]) -> int:
    """Forks a child that calls `become`, which may not return, and waits for it: the status as a shell shows it.

    A JubakoError that `become` raises, in the child or a child of that, is raised here, of the same class.
    """
    report, write_end = os.pipe()  # closed when a program is executed
    os.set_blocking(report, False)

    def run() -> int:
        try:
            return become()
        except JubakoError as error:
            kind = type(error).__name__
            os.write(write_end, b"\0".join(os.fsencode(text) for text in (kind, error.message, error.hint)))
            return error.exit_status if isinstance(error, NotExecuted) else _SETUP_FAILED

    try:
        pid = fork_child(run)
        status = exit_status(os.waitpid(pid, 0)[1])
        raw = _read_what_is_there(report)
    finally:
        os.close(report)
        os.close(write_end)
    if raw:
        raise _error_of(raw, status)
    return status


def _read_what_is_there(report: int) -> bytes:
    try:
        return os.read(report, _REPORT_BYTES)
    except BlockingIOError:
        return b""


def _error_of(raw: bytes, status: int) -> JubakoError:
    kind, message, hint = (os.fsdecode(word) for word in raw.split(b"\0", 2))
    if kind == NotExecuted.__name__:
        return NotExecuted(message, exit_status=status, hint=hint)
    return {"InputError": InputError, "HostError": HostError}.get(kind, BugError)(message, hint=hint)
