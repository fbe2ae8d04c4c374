"""What a system call that failed means for a box, and what to do: mostly the system has run out of something."""

from __future__ import annotations

import errno

from jubako.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["explained", "find_cure"]

_SPACE = "Make room there, or set JUBAKO_STATE to a directory on another local disk."
_CURES = {
    errno.EAGAIN: "There may be no more processes: end some, or raise 'ulimit -u' or the group's pids.max.",
    errno.EDQUOT: _SPACE,
    errno.EMFILE: "This process has as many files open as it may: close some, or raise 'ulimit -n'.",
    errno.ENFILE: "The machine has as many files open as it may: end programs, or raise fs.file-max, as root.",
    errno.ENOMEM: "The memory is used up: end programs, or raise the limit of this group or user.",
    errno.ENOSPC: _SPACE,
    errno.EROFS: "Set JUBAKO_STATE to a directory that can be written.",
}


def find_cure(error: OSError) -> str:
    """What to do about `error`; "" if nothing general can be said."""
    return _CURES.get(error.errno or 0, "")


class explained:
    """Makes a HostError of an OSError that leaves a `with` block: `what` was wanted, and which call failed on what."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            where = f" ({error.filename})" if error.filename else ""
            raise HostError(f"{self._what}: {error.strerror or error}{where}", hint=find_cure(error)) from error
