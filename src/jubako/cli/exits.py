"""How a command ends: its exit code, and what went wrong as a sentence. What surrounds every command, however read.

An error becomes `Error: one sentence`, then `hint: the next thing to try`, on stderr, and an exit code:

    0    all that was asked for is there          3    this host cannot do it (kernel, disk, permission)
    1    something asked for failed or is missing  4    another run or program changed the same things
    2    asked wrongly                             70   a defect in jubako itself; please report it
    130  interrupted (Ctrl-C)                      141  the reader of our output went away, as SIGPIPE would say
"""

from __future__ import annotations

import os
import sys

from jubako.cli.terminal import echo, say
from jubako.errors import BugError, ConflictError, HostError, InputError, JubakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TextIO

__all__ = [
    "EXIT_BUG",
    "EXIT_CONFLICT",
    "EXIT_FAILED",
    "EXIT_HOST",
    "EXIT_INTERRUPTED",
    "EXIT_USAGE",
    "asks_for_debug",
    "explain_interrupt",
    "finish",
]

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_HOST = 3
EXIT_CONFLICT = 4
EXIT_BUG = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_ASCII = ("ascii", "us-ascii", "ansi_x3.4-1968")


def finish(run: Callable[[], int], *, debug: bool) -> int:
    """Runs a command; the exit code it returns, or its error's, which is then printed as a sentence."""
    _open_streams()
    try:
        code = _run(run, debug=debug)
        sys.stdout.flush()
    except BrokenPipeError:
        _let_go(_find_refused())
        code = EXIT_BROKEN_PIPE
    except OSError as error:
        # An unbuffered stream holds nothing back; but only what is written to stderr can still fail here then.
        refused = _find_refused() or {"stderr": sys.stderr}
        _let_go(refused)
        why = f"{' and '.join(refused)} cannot be written: {error.strerror}"
        code = EXIT_HOST
        try:
            _explain(HostError(why, hint="Make room there, or send it elsewhere."), debug=debug)
        except OSError:  # nor can it be said
            _let_go(_find_refused())
    return code


def asks_for_debug(arguments: Sequence[str]) -> bool:
    """True if --debug stands on the line, in front of a `--` that ends our own options."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--debug" in own


def explain_interrupt(notes: Sequence[str] = ()) -> int:
    """Says that the command was interrupted, and what `notes` there are; its exit code."""
    echo(" ".join(["Interrupted.", *notes]), err=True)
    return EXIT_INTERRUPTED


def _open_streams() -> None:
    """Gives a closed stdin, stdout or stderr (`>&-`) /dev/null, or the next file opened would be taken for it, and lets
    the latter two print names of files, which are bytes, as they are."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), fd)  # the lowest free descriptor: `fd` itself, now inherited
            setattr(sys, name, os.fdopen(fd, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            encoding = "utf-8" if stream.encoding.lower() in _ASCII else stream.encoding
            stream.reconfigure(encoding=encoding, errors="surrogateescape")


def _find_refused() -> dict[str, TextIO]:
    """Those of stdout and stderr, by name, that hold something back which the system does not take: a disk is full."""
    refused = {}
    for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        try:
            stream.flush()
        except OSError:
            refused[name] = stream
    return refused


def _let_go(streams: Mapping[str, TextIO]) -> None:
    """Sends what Python still holds for these streams nowhere, or it would complain once more while it ends."""
    for stream in streams.values():
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(run: Callable[[], int], *, debug: bool) -> int:
    try:
        return run()
    except KeyboardInterrupt as interrupt:
        return explain_interrupt(getattr(interrupt, "__notes__", ()))
    except BrokenPipeError:
        raise
    except Exception as error:  # the one place where an error becomes a sentence and a code
        if isinstance(error, OSError) and _find_refused():
            raise
        return _explain(error, debug=debug)


def _explain(error: Exception, *, debug: bool) -> int:
    """Prints an error's sentence and hint; its exit code."""
    if debug:
        import traceback  # 3 ms to import

        traceback.print_exception(error)
    if isinstance(error, JubakoError):
        say("Error", error.message)
        if error.hint:
            say("hint", error.hint)
        return _code_of(error)
    if isinstance(error, FileNotFoundError) and not error.filename and _is_without_directory():
        say("Error", "the working directory is gone: it was removed, or replaced by another of the same name")
        say("hint", "'cd' to one that is there, then run the same command again.")
        return EXIT_HOST
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        say("Error", f"{error.strerror or error}{where}")
        for note in getattr(error, "__notes__", ()):
            say("hint", note)
        say("hint", "'jubako doctor' shows what this host can do; --debug shows where it happened.")
        return EXIT_HOST
    say("Error", f"a defect in jubako: {type(error).__name__}: {error}")
    say("hint", "Please report it with what --debug shows.")
    return EXIT_BUG


def _is_without_directory() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _code_of(error: JubakoError) -> int:
    for kind, code in (
        (HostError, EXIT_HOST),  # first: what is too large for this machine may be an error of input, too
        (InputError, EXIT_USAGE),
        (ConflictError, EXIT_CONFLICT),
        (BugError, EXIT_BUG),
    ):
        if isinstance(error, kind):
            return code
    return EXIT_FAILED
