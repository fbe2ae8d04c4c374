"""Lends this terminal to a command that runs in a box made for it, so that it has one of the box's own."""

from __future__ import annotations

from contextlib import contextmanager

from jubako.boxes.living.on_terminal import OnTerminal, is_on_terminal
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jubako.boxes.commands.first import Program

__all__ = ["lend_terminal"]


@contextmanager
def lend_terminal(*, is_wanted: bool | None) -> Iterator[Callable[[Program], Program]]:
    """What has a program run on a terminal of its box's, for the time of a `with` block: if there is a terminal here,
    where nothing was said (None). InputError if it is wanted, and there is none."""
    is_there = is_on_terminal()
    if is_wanted and not is_there:
        raise InputError("--tty needs a terminal, and stdin, stdout or stderr is none here")
    if is_wanted is False or not is_there:
        yield lambda program: program
        return
    with OnTerminal() as terminal:
        yield terminal.put
