"""Firings as real processes."""

from __future__ import annotations

import os
import select
import signal
import sys
from zoneinfo import ZoneInfo

import pytest

from jubako.flow.schedules.cron import Cron
from jubako.flow.schedules.firing_process import FiringProcess, ProcessLauncher
from jubako.flow.schedules.firings import Rule
from jubako.flow.schedules.schedule import Schedule


def wait(process: FiringProcess) -> int | None:
    ready, _, _ = select.select([process], [], [], 30)
    assert ready == [process]
    return process.poll()


def python(code: str) -> FiringProcess:
    return FiringProcess([sys.executable, "-I", "-S", "-c", code], os.environ)


def test_process_is_readable_when_it_has_ended_with_its_code() -> None:
    process = python("raise SystemExit(3)")
    assert wait(process) == 3
    assert process.poll() == 3


def test_process_that_is_interrupted_ends() -> None:
    process = python("import signal; signal.pause()")
    assert process.poll() is None
    process.interrupt()
    assert wait(process) == -signal.SIGTERM


def test_process_is_in_a_group_of_its_own_without_input() -> None:
    assert wait(python("import os, sys; raise SystemExit(os.getpgid(0) != os.getpid() or len(sys.stdin.read()))")) == 0


def test_launcher_says_which_firing_on_a_dumb_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import os, sys; print(*sys.argv[1:], os.environ['TERM'], os.environ['KEPT'])"
    launcher = ProcessLauncher([sys.executable, "-S", "-c", code, "x"], "-p.py", {"TERM": "xterm", "KEPT": "kept"})
    rule = Rule(Cron("@daily"), ZoneInfo("Asia/Tokyo"))
    assert wait(launcher.start(Schedule("two words", rule, "all", "skip", lambda _moment: []), 0)) == 0
    assert capfd.readouterr().out == "x --fire=two words --at=1970-01-01T00:00:00+00:00 -- -p.py dumb kept\n"


def test_launcher_of_what_is_not_there_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        FiringProcess(["/nonexistent/python"], os.environ)
