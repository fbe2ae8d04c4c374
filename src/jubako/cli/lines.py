"""What is said of a run line by line: how its tasks end, and what they print.

In a pipe that is all there is; a terminal has some of it above its live display.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TextIO

from jubako.cli.terminal import echo, printable
from jubako.flow.accounting import format_seconds
from jubako.flow.observer import (
    Note,
    RunEvent,
    RunPlanned,
    TaskFailed,
    TaskPrinted,
    TaskPublished,
    TaskStarted,
    TaskVerified,
)

__all__ = [
    "AGREEING",
    "Lines",
    "PrintedBeginnings",
    "PrintedLines",
    "Tally",
    "describe_failure",
    "describe_note",
    "describe_verified",
    "printable_line",
]

AGREEING = ("same", "within")  # verdicts of a verification that bear out what is published
_WORTH_SAYING_S = 1.0
_SHOWN_BYTES = 64 << 10  # of what one attempt prints; its log has more


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
        elif isinstance(event, TaskVerified):
            self.running.pop(event.task.task_id, None)
            self.done += event.verdict in AGREEING
            self.failed += event.verdict not in AGREEING
        elif isinstance(event, TaskFailed):
            self.running.pop(event.task.task_id, None)
            if not event.again:
                self.failed += 1


class Lines:
    """One line for each task that was published or failed; what tasks print goes to stderr, line by line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._tally = Tally()
        self._printed = PrintedBeginnings(lambda line: echo(line, err=True))

    def see(self, event: RunEvent) -> None:
        self._tally.count(event)
        self._printed.see(event)
        if isinstance(event, TaskPublished):
            self._end(f"done    {printable(str(event.task))}  {format_seconds(event.wall_s)}")
        elif isinstance(event, TaskVerified):
            self._end(describe_verified(event))
        elif isinstance(event, TaskFailed):
            self._end(f"{'retry ' if event.again else 'FAILED'}  {describe_failure(event)}")
        elif isinstance(event, Note):
            echo(describe_note(event), err=True)

    def say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)

    def _end(self, line: str) -> None:
        tally = self._tally
        width = len(str(tally.total))
        self.say(f"[{tally.done + tally.failed:>{width}}/{tally.total}] {line}")


class PrintedBeginnings:
    """Says what tasks print, line by line; of one that prints more than `_SHOWN_BYTES`, only the beginning."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._lines = PrintedLines(say)
        self._printed_bytes: dict[str, int] = {}

    def see(self, event: RunEvent) -> None:
        if isinstance(event, TaskPrinted):
            self._show(event)
        elif isinstance(event, (TaskPublished, TaskVerified, TaskFailed)):
            self._lines.end(event.task.task_id, str(event.task))
            self._printed_bytes.pop(event.task.task_id, None)

    def _show(self, event: TaskPrinted) -> None:
        task_id, label = event.task.task_id, str(event.task)
        before = self._printed_bytes.get(task_id, 0)
        if before > _SHOWN_BYTES:
            return
        self._printed_bytes[task_id] = before + len(event.data)
        self._lines.add(task_id, label, event.data[: _SHOWN_BYTES - before])
        if before + len(event.data) > _SHOWN_BYTES:
            self._lines.end(task_id, label)
            where = f": {event.log_path}" if event.log_path else ""
            self._say(printable(f"{label} | [it prints more than {_SHOWN_BYTES >> 10} KiB; see its log{where}]"))


class PrintedLines:
    """Puts together the whole lines of what each task prints, and says whose they are."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._begun: dict[str, bytes] = {}

    def add(self, key: str, label: str, data: bytes) -> None:
        """A piece of what `key`, for people `label`, prints."""
        *lines, self._begun[key] = (self._begun.pop(key, b"") + data).split(b"\n")
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
    """The failed task, the first line of why, and when it is tried again, where that takes a while."""
    wait = f" (again in {format_seconds(event.wait_s)})" if event.wait_s >= _WORTH_SAYING_S else ""
    return f"{printable(str(event.task))}: {printable(event.error.partition(chr(10))[0])}{wait}"


def describe_verified(event: TaskVerified) -> str:
    """What verifying the task came to; at once why, where it does not agree."""
    verdict = event.verdict if event.verdict in AGREEING else event.verdict.upper()
    label = printable(str(event.task))
    if event.verdict in AGREEING:
        return f"{verdict:<9}  {label}  {format_seconds(event.wall_s)}"
    return f"{verdict:<9}  {label}: {printable(event.sentence)}"


def describe_note(event: Note) -> str:
    """The note, and its hint in a second line."""
    return f"note: {printable(event.text)}" + (f"\nhint: {printable(event.hint)}" if event.hint else "")
