"""What the lines of `jubako unshare` and `jubako nsenter` share: how they end, and numbers, ids and signals on them."""

from __future__ import annotations

from jubako.boxes.namespaces.execute import NotExecuted
from jubako.cli.terminal import say
from jubako.errors import BugError, InputError, JubakoError, WorkError
from jubako.kernel.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["finish_like_util_linux", "read_id", "read_number", "read_signal"]


def finish_like_util_linux(run: Callable[[], int]) -> int:
    """What `run` returns. All that goes wrong before the program starts ends with 1, as in util-linux; a program that
    isn't there with 127, one that can't be executed with 126."""
    try:
        return run()
    except NotExecuted as error:
        say("Error", error.message)
        if error.hint:
            say("hint", error.hint)
        return error.exit_status
    except (BugError, WorkError):
        raise
    except JubakoError as error:
        raise WorkError(error.message, hint=error.hint) from error


def read_number(text: str, option: str, *, least: int = 0, most: int) -> int:
    """A whole number on the line. Raises InputError for what is none, or not between the two."""
    digits = text.removeprefix("-" if least < 0 else "")
    if not (digits.isascii() and digits.isdigit()) or not least <= int(text) <= most:
        raise InputError(f"{option} takes a whole number from {least} to {most}, not {text!r}")
    return int(text)


def read_id(text: str, what: str) -> int:
    """The id of a "user" or "group", given by name or number."""
    if text.isascii() and text.isdigit():
        return read_number(text, f"--map-{what}", most=2**32 - 2)
    import grp  # most lines name nobody
    import pwd

    try:
        return pwd.getpwnam(text).pw_uid if what == "user" else grp.getgrnam(text).gr_gid
    except KeyError:
        raise InputError(f"there is no {what} {text!r} on this machine") from None


def read_signal(text: str) -> int:
    """The number of a signal given as "KILL", "SIGKILL" or 9."""
    if text.isascii() and text.isdigit() and 0 < int(text) < signal.NSIG:
        return int(text)
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    number = getattr(signal, name, None)
    if isinstance(number, int) and not name.startswith("SIG_"):
        return number
    raise InputError(f"there is no signal {text!r}", hint="'kill -l' lists them.")
