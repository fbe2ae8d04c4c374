"""The live display of a run on a terminal. The only module that imports rich.

It has no thread of its own, because a run forks: it is drawn when something happens, and a timer signal on the main
thread moves its clock while nothing does. The timer isn't inherited by what a run starts.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jubako.cli.lines import (
    AGREEING,
    PrintedBeginnings,
    Tally,
    describe_failure,
    describe_note,
    describe_verified,
)
from jubako.cli.terminal import printable
from jubako.flow.observer import Note, RunEvent, TaskFailed, TaskVerified

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

__all__ = ["Live"]

_REFRESH_S = 0.1  # the display is made anew at most this often
_CLOCK_S = 0.25  # and at least this often, so that the clock moves
_SHOWN_RUNNING = 6


class Live:
    """An observer that keeps counts, the clock and the running tasks in view at the bottom of a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, no_color=bool(os.environ.get("NO_COLOR")))
        self._tally = Tally()
        self._printed = PrintedBeginnings(self.say)
        self._began_s = time.monotonic()
        self._drawn_s = 0.0
        self._is_drawing = False
        self._display = RichLive(console=self._console, auto_refresh=False, transient=True)

    @contextmanager
    def shown(self) -> Iterator[Live]:
        """The display, on the screen until the block ends."""
        before = signal.signal(signal.SIGALRM, lambda _signal, _frame: self._draw())
        signal.setitimer(signal.ITIMER_REAL, _CLOCK_S, _CLOCK_S)
        try:
            with self._display:
                yield self
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def see(self, event: RunEvent) -> None:
        self._tally.count(event)
        self._printed.see(event)
        if isinstance(event, TaskFailed):
            self.say(f"{'retry ' if event.again else 'FAILED'}  {describe_failure(event)}", style="red")
        elif isinstance(event, TaskVerified) and event.verdict not in AGREEING:
            self.say(describe_verified(event), style="red")
        elif isinstance(event, Note):
            self.say(describe_note(event), style="yellow")
        if time.monotonic() - self._drawn_s >= _REFRESH_S:
            self._draw()

    def say(self, line: str, *, style: str = "") -> None:
        drawing, self._is_drawing = self._is_drawing, True
        self._console.print(Text(line, style=style), soft_wrap=True)
        self._is_drawing = drawing

    def _draw(self) -> None:
        """Draw anew, unless the timer struck while it was being drawn."""
        if self._is_drawing:
            return
        self._is_drawing = True
        self._drawn_s = time.monotonic()
        self._display.update(self._render(), refresh=True)
        self._is_drawing = False

    def _render(self) -> RenderableType:
        tally = self._tally
        finished = tally.done + tally.failed
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=max(tally.total, 1), completed=finished, width=30, complete_style="green"),
            Text(f"{finished}/{tally.total}"),
            Text(f"{tally.done} done", style="green"),
            Text(f"{len(tally.running)} running", style="cyan"),
            Text(f"{tally.failed} failed", style="bold red" if tally.failed else "dim"),
            Text(_clock(time.monotonic() - self._began_s), style="dim"),
        )
        running = list(tally.running.values())
        lines = [
            Text(f"  {printable(str(task))}", overflow="ellipsis", no_wrap=True) for task in running[:_SHOWN_RUNNING]
        ]
        if len(running) > _SHOWN_RUNNING:
            lines.append(Text(f"  and {len(running) - _SHOWN_RUNNING} more", style="dim"))
        return Group(head, *lines)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
