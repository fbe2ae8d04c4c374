"""What a run looks like while it works: a live display on a terminal, one line a task in a pipe.

Both are observers of the run. The live display (`cli.live`) keeps a few lines at the bottom up to date, and prints
above them only what should stay: failures, notes, and what tasks print.

Where the result itself goes to stdout as JSON, CSV or YAML, progress goes to stderr, and so does what the pipeline's
own code prints in this process.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, redirect_stdout
from typing import Protocol

from jubako.cli.document import Format
from jubako.cli.lines import Lines
from jubako.flow.observer import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

__all__ = ["Display", "load_display", "show_progress"]


class Display(Observer, Protocol):
    """An observer that shows what it sees."""

    def say(self, line: str) -> None:
        """Shows a line that stays."""


def load_display() -> None:
    """Imports what a terminal needs, before there is a pipeline whose folder could hold a `rich.py` or `attr.py`."""
    if _is_terminal(sys.stdout) or _is_terminal(sys.stderr):
        import jubako.cli.live  # noqa: F401  (rich costs 60 ms, which only a person in front of a terminal should wait for)


@contextmanager
def show_progress(format_: Format) -> Iterator[Display]:
    """An observer that shows the run it is given to, as suits where the output goes."""
    if format_ != "table":
        with redirect_stdout(sys.stderr), _show_on(sys.stderr) as display:
            yield display
    else:
        with _show_on(sys.stdout) as display:
            yield display


@contextmanager
def _show_on(stream: TextIO) -> Iterator[Display]:
    if _is_terminal(stream):
        from jubako.cli.live import Live  # rich, as in load_display

        with Live(stream).shown() as live:
            yield live
    else:
        yield Lines(stream)


def _is_terminal(stream: TextIO) -> bool:
    """True if a display that moves can be shown there."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"
