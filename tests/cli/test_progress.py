"""What a run looks like while it works, fed with events as a run would send them."""

from __future__ import annotations

import io
import os
import pty
import re
import signal

import pytest

from jubako.cli.lines import Lines, Tally
from jubako.cli.live import Live
from jubako.flow.observer import (
    Note,
    RunEvent,
    RunPlanned,
    TaskFailed,
    TaskPrinted,
    TaskPublished,
    TaskStarted,
)
from jubako.flow.parameters import IntParameter
from jubako.flow.tasks.task import Task


class Step(Task):
    number = IntParameter()


class Named(Task):
    name = IntParameter()

    def __repr__(self) -> str:
        return "Named(\x1b[31m\n)"


FIRST, SECOND, THIRD = Step(number=1), Step(number=2), Step(number=3)

EVENTS: list[RunEvent] = [
    RunPlanned(found=4, complete=1, to_run=3, missing=0, broken=0),
    Note("durability is relaxed here", hint="use a disk"),
    TaskStarted(FIRST, "a1"),
    TaskStarted(SECOND, "a2"),
    TaskPrinted(FIRST, b"half a "),
    TaskPrinted(SECOND, b"other\n"),
    TaskPrinted(FIRST, b"line\nand \xff rest"),
    TaskPublished(FIRST, wall_s=0.012),
    TaskFailed(SECOND, "it broke\nbadly", again=True),
    TaskStarted(SECOND, "a3"),
    TaskFailed(SECOND, "it broke again"),
    TaskStarted(THIRD, "a4"),
    TaskPublished(THIRD, wall_s=61),
]


def test_lines_of_a_run_are_one_for_each_end_of_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    for event in EVENTS:
        lines.see(event)
    assert stream.getvalue().splitlines() == [
        "[1/3] done    Step(number=1)  12 ms",
        "[1/3] retry   Step(number=2): it broke",
        "[2/3] FAILED  Step(number=2): it broke again",
        "[3/3] done    Step(number=3)  1 min 1 s",
    ]
    assert capsys.readouterr().err.splitlines() == [
        "note: durability is relaxed here",
        "hint: use a disk",
        "Step(number=2) | other",
        "Step(number=1) | half a line",
        r"Step(number=1) | and \xff rest",
    ]


def test_lines_of_a_flood_are_its_beginning_and_the_name_of_its_log(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(io.StringIO())
    line = b"x" * 63 + b"\n"
    for _ in range(3):
        lines.see(TaskPrinted(FIRST, line * 500, "/logs/1.log"))
    lines.see(TaskPrinted(SECOND, b"quiet\n"))
    lines.see(TaskFailed(FIRST, "it broke", again=True))
    lines.see(TaskPrinted(FIRST, b"again\n", "/logs/2.log"))
    assert capsys.readouterr().err.splitlines() == [
        *[f"Step(number=1) | {'x' * 63}"] * 1024,
        "Step(number=1) | [it prints more than 64 KiB; see its log: /logs/1.log]",
        "Step(number=2) | quiet",
        "Step(number=1) | again",
    ]


def test_lines_of_a_flood_without_line_ends_are_one(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(io.StringIO())
    lines.see(TaskPrinted(FIRST, b"y" * (64 << 10)))
    assert capsys.readouterr().err == ""
    lines.see(TaskPrinted(FIRST, b"y"))
    lines.see(TaskPrinted(FIRST, b"y" * 1_000_000))
    flood, notice = capsys.readouterr().err.splitlines()
    assert flood == f"Step(number=1) | {'y' * (64 << 10)}"
    assert notice == "Step(number=1) | [it prints more than 64 KiB; see its log]"


def test_lines_of_a_hostile_name_are_still_one_and_harmless() -> None:
    stream = io.StringIO()
    Lines(stream).see(TaskFailed(Named(name=1), "\x07ring\nring"))
    assert stream.getvalue() == "[1/1] FAILED  Named(\\x1b[31m\\n): \\x07ring\n"


def test_tally_grows_with_tasks_nobody_planned() -> None:
    tally = Tally()
    for event in EVENTS:
        tally.count(event)
    assert (tally.done, tally.failed, tally.total, tally.running) == (2, 1, 3, {})
    tally.count(TaskPublished(Step(number=9), wall_s=0))
    assert tally.total == 4


def test_live_display_keeps_what_matters_and_leaves_no_timer() -> None:
    before = signal.getsignal(signal.SIGALRM)
    controller, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream:
        with Live(stream).shown() as live:
            for event in EVENTS[:-2]:
                live.see(event)
            os.kill(os.getpid(), signal.SIGALRM)  # the clock strikes, and it is drawn
        shown = read_all(controller)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)
    assert "FAILED  Step(number=2): it broke again" in text
    assert "Step(number=1) | half a line" in text
    assert re.search(r"2/3 +1 done +0 running +1 failed +0:00", text)


def read_all(controller: int) -> str:
    os.set_blocking(controller, False)
    data = b""
    try:
        while chunk := os.read(controller, 65536):
            data += chunk
    except BlockingIOError:
        os.close(controller)
    return data.decode()
