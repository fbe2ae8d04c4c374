"""What a run looks like while it works: a live display on a terminal, one line a task in a pipe.

Both are observers of the run. The live display (`cli.live`) keeps a few lines at the bottom up to date, and prints
above them only what should stay: failures, notes, and what tasks print.

Where the result itself goes to stdout as JSON, CSV or YAML, progress goes to stderr, and so does what the pipeline's
own code prints in this process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, Protocol, TextIO

import click

from jubako.cli.formats import Format, printable
from jubako.flow.accounting import format_seconds
from jubako.flow.observer import (
    Note,
    Observer,
    RunEvent,
    RunPlanned,
    TaskFailed,
    TaskPrinted,
    TaskPublished,
    TaskStarted,
)

__all__ = [
    "Display",
    "Lines",
    "PrintedLines",
    "Tally",
    "describe_failure",
    "describe_note",
    "printable_line",
    "show_progress",
]


class Display(Observer, Protocol):
    """An observer that shows what it sees."""

    def say(self, line: str) -> None:
        """Shows a line that stays."""


@contextmanager
def show_progress(format_: Format) -> Iterator[Display]:
    """An observer that shows the run it is given to, as suits where the output goes."""
    if format_ != "table":
        with redirect_stdout(sys.stderr), _show_on(sys.stderr) as display:
            yield display
    else:
        with _show_on(sys.stdout) as display:
            yield display


class Tally:
    """Counts what was seen. `total` grows with tasks that turn out to be needed."""

    def __init__(self) -> None:
        self.planned = 0
        self.done = 0
        self.failed = 0
        self.running: dict[str, Any] = {}  # task id -> task, in the order they started

    @property
    def total(self) -> int:
        return max(self.planned, self.done + self.failed + len(self.running))

    def count(self, event: RunEvent) -> None:
        if isinstance(event, RunPlanned):
            self.planned = event.to_run
        elif isinstance(event, TaskStarted):
            self.running[event.task.task_id] = event.task
        elif isinstance(event, TaskPublished):
            self.running.pop(event.task.task_id, None)
            self.done += 1
        elif isinstance(event, TaskFailed):
            self.running.pop(event.task.task_id, None)
            if not event.again:
                self.failed += 1


class Lines:
    """One line for each task that was published or failed; what tasks print goes to stderr, line by line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._tally = Tally()
        self._printed = PrintedLines(lambda line: click.echo(line, err=True))

    def see(self, event: RunEvent) -> None:
        self._tally.count(event)
        self._printed.see(event)
        if isinstance(event, TaskPublished):
            self._end(f"done    {printable(str(event.task))}  {format_seconds(event.wall_s)}")
        elif isinstance(event, TaskFailed):
            self._end(f"{'retry ' if event.again else 'FAILED'}  {describe_failure(event)}")
        elif isinstance(event, Note):
            click.echo(describe_note(event), err=True)

    def say(self, line: str) -> None:
        click.echo(line, file=self._stream)

    def _end(self, line: str) -> None:
        tally = self._tally
        width = len(str(tally.total))
        self.say(f"[{tally.done + tally.failed:>{width}}/{tally.total}] {line}")


class PrintedLines:
    """Puts together the whole lines of what each task prints, and says whose they are."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._begun: dict[str, bytes] = {}

    def see(self, event: RunEvent) -> None:
        if isinstance(event, TaskPrinted):
            self.add(event.task.task_id, str(event.task), event.data)
        elif isinstance(event, (TaskPublished, TaskFailed)):
            self.end(event.task.task_id, str(event.task))

    def add(self, key: str, label: str, data: bytes) -> None:
        """A piece of what `key`, for people `label`, prints."""
        *lines, rest = (self._begun.pop(key, b"") + data).split(b"\n")
        self._begun[key] = rest
        for line in lines:
            self._put(label, line)

    def end(self, key: str, label: str) -> None:
        """`key` prints no more: its last line may lack an end."""
        rest = self._begun.pop(key, b"")
        if rest:
            self._put(label, rest)

    def _put(self, label: str, line: bytes) -> None:
        self._say(f"{printable(label)} | {printable_line(line)}")


def printable_line(line: bytes) -> str:
    """A line of what a task printed, as a terminal may have it."""
    return printable(line.rstrip(b"\r").decode("utf-8", "surrogateescape").expandtabs())


def describe_failure(event: TaskFailed) -> str:
    """The failed task and the first line of why."""
    return f"{printable(str(event.task))}: {printable(event.error.partition(chr(10))[0])}"


def describe_note(event: Note) -> str:
    """The note, and its hint in a second line."""
    return f"note: {printable(event.text)}" + (f"\nhint: {printable(event.hint)}" if event.hint else "")


@contextmanager
def _show_on(stream: TextIO) -> Iterator[Display]:
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        from jubako.cli.live import Live  # rich costs 60 ms, which only a person in front of a terminal should wait for

        with Live(stream).shown() as live:
            yield live
    else:
        yield Lines(stream)
