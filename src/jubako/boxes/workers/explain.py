"""Puts what went wrong in a box into one sentence, with the cause that only the box knows. Pure."""

from __future__ import annotations

import errno

from jubako.boxes.views.facts import is_below
from jubako.boxes.views.plan import STAGE, TMP
from jubako.boxes.views.plan_tops import SCRATCH
from jubako.errors import JubakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["explain_failure", "explain_status"]

_SIGNALS = {1: "SIGHUP", 2: "SIGINT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV"}
_SIGNALS |= {13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS"}
_MORE_SCRATCH = "Box(scratch_size_bytes=...) or Box(scratch='disk') gives more scratch"


def explain_failure(
    error: BaseException,
    writable: Sequence[str] = (),
    staged: Mapping[str, str] | None = None,
    is_full: Callable[[str], bool] = lambda _: False,
) -> str:
    """One sentence on `error`, which a task raised.

    `writable` are the directories it could write below, `staged` says of declared outputs where they are written, and
    `is_full` whether the disk at a path is: an error of writing to an open file names none.
    """
    if isinstance(error, JubakoError):
        return f"{error.message} ({error.hint})" if error.hint else error.message
    if isinstance(error, SystemExit):
        return f"exited with {error.code!r}"
    sentence = _first_line(error)
    for cause in _chain(error):
        if isinstance(cause, OSError):
            reason = _explain_os_error(cause, writable) or _explain_no_space(cause, writable, staged or {}, is_full)
            if reason:
                return f"{_name_outputs(sentence, staged or {})}: {reason}"
    return sentence


def explain_status(status: int) -> str:
    """One sentence on a child that ended without an answer; `status` is what a shell shows."""
    if status > 128:
        number = status - 128
        name = _SIGNALS.get(number, f"signal {number}")
        likely = "; perhaps the machine ran out of memory" if number == 9 else ""
        return f"was killed by {name}{likely}"
    return f"ended with exit status {status} before it returned"


def _first_line(error: BaseException) -> str:
    kind = type(error).__qualname__
    text = str(error).strip()
    return f"{kind}: {text}" if text else kind


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what caused it, the nearest first; ends where it goes in circles."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _explain_os_error(error: OSError, writable: Sequence[str]) -> str:
    path = _path_of(error)
    if error.errno == errno.EROFS:
        places = ", ".join(["its declared outputs", "TMPDIR", *(f"below {directory}" for directory in writable)])
        may = "" if "/" in writable else f", where a task may write {places}"
        return f"{path or 'that place'} is read-only in this box{may}; " + (
            "declare it as an output, or share it with Box(binds=[...])"
        )
    if error.errno == errno.EOVERFLOW and path:
        return (
            f"{path} or its folder belongs to another user, or to a second group of yours, and in a box without root "
            "there is your first group alone; write it through its target, or remove it first"
        )
    if error.errno == errno.EBUSY and path:
        return f"{path} cannot be replaced or removed, since it is mounted; write into it instead"
    return ""


def _explain_no_space(
    error: OSError, writable: Sequence[str], staged: Mapping[str, str], is_full: Callable[[str], bool]
) -> str:
    if error.errno != errno.ENOSPC:
        return ""
    path = _path_of(error)
    if path.startswith(f"{STAGE}/"):
        return "the disk that holds this output is full"
    if path:
        is_scratch = path.startswith(f"{SCRATCH}/") or any(is_below(path, one) for one in writable)
        return f"the box's scratch is full; {_MORE_SCRATCH}" if is_scratch else ""
    outputs = [output for output, place in staged.items() if is_full(place.rpartition("/")[0])]
    if outputs:
        return f"the disk that holds {', '.join(outputs)} is full"
    if is_full(TMP):
        below = ", ".join(["TMPDIR", *writable])
        return f"the box's scratch is full, where all goes that is written below {below}; {_MORE_SCRATCH}"
    return f"the disk of an output is full, or the box's scratch; {_MORE_SCRATCH}"


def _name_outputs(sentence: str, staged: Mapping[str, str]) -> str:
    """`sentence` with outputs called what the task calls them, not where they are staged."""
    for output, place in staged.items():
        sentence = sentence.replace(f"'{place}'", f"'{output}'")
    return sentence


def _path_of(error: OSError) -> str:
    for name in (error.filename2, error.filename):
        if isinstance(name, bytes):
            return name.decode(errors="surrogateescape")
        if isinstance(name, str):
            return name
    return ""
