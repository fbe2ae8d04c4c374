"""The executor with a process per task: limits, cancels, deaths, descriptors."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from jubako.flow.executors.executor import Ended, ExecutorEvent, Order, Printed, Said
from jubako.flow.executors.forked import ForkedExecutor
from jubako.flow.parameters import IntParameter, Parameter
from jubako.flow.tasks.task import Task


@pytest.fixture
def executor() -> Iterator[ForkedExecutor]:
    made = ForkedExecutor(lambda task: False, grace_s=0.2)
    yield made
    made.close()


def drive(executor: ForkedExecutor, *, until: type = Ended, limit_s: float = 20.0) -> list[Any]:
    """Events up to the first of a kind; waits as the run loop does."""
    events: list[ExecutorEvent] = []
    deadline = time.monotonic() + limit_s
    while not any(isinstance(event, until) for event in events):
        assert time.monotonic() < deadline
        poll = select.poll()
        for fd in executor.filenos():
            poll.register(fd, select.POLLIN)
        due_s = executor.due_s
        poll.poll(max(0.0, (deadline if due_s is None else min(deadline, due_s)) - time.monotonic()) * 1000 + 1)
        events += executor.poll()
    return events


class Does(Task):
    what = Parameter()

    def run(self) -> Any:
        match self.what:
            case "print":
                sys.stdout.write("hello\n")
                sys.stderr.write("and\n")
                os.write(1, b"bytes\xff")
            case "say":
                assert self.set_progress_percentage is not None
                self.set_progress_percentage(7)
            case "exit":
                os._exit(3)
            case "die":
                os.kill(os.getpid(), signal.SIGUSR1)
            case "sleep":
                sys.stdout.write("sleeping\n")
                time.sleep(600)
            case "ignore":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                sys.stdout.write("sleeping\n")
                time.sleep(600)
            case "close":
                os.close(1)
                os.close(2)
                time.sleep(0.05)
            case "yield":
                yield Does("print")
            case "yield local":
                yield Takes(lambda: None)
            case "fds":
                for name in os.listdir("/proc/self/fd"):
                    with suppress(FileNotFoundError):  # the one that lists them
                        sys.stdout.write(os.readlink(f"/proc/self/fd/{name}") + "\n")
            case "session":
                sys.stdout.write(f"{os.getsid(0) == os.getpid()} {os.getppid()}\n")


class Takes(Task):
    anything: Any = IntParameter()


def ended(events: list[Any]) -> Ended:
    (found,) = [event for event in events if isinstance(event, Ended)]
    return found


def test_output_comes_as_bytes_and_usage_with_the_end(executor: ForkedExecutor) -> None:
    executor.start(Order("1", Does("print")))
    events = drive(executor)
    assert b"".join(event.data for event in events if isinstance(event, Printed)) == b"hello\nand\nbytes\xff"
    end = ended(events)
    assert (end.attempt_id, end.outcome, end.handlers_called) == ("1", "ok", True)
    assert end.peak_bytes > 1 << 20


def test_what_a_task_says_comes_over(executor: ForkedExecutor) -> None:
    executor.start(Order("1", Does("say")))
    assert Said("1", "percentage", 7) in drive(executor)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("exit", "its process exited with 3 in the middle of run()"),
        ("die", "its process was killed by signal SIGUSR1 in the middle of run()"),
    ],
)
def test_death_in_the_middle_is_a_failure(executor: ForkedExecutor, what: str, sentence: str) -> None:
    executor.start(Order("1", Does(what)))
    end = ended(drive(executor))
    assert (end.outcome, end.error) == ("failed", sentence)


def test_time_limit_asks_first_and_then_kills(executor: ForkedExecutor) -> None:
    executor.start(Order("1", Does("ignore"), timeout_s=0.1))
    end = ended(drive(executor))
    assert (end.outcome, end.error) == ("timeout", "it ran longer than 0.1 s")


def test_cancel_ends_it_and_kill_does_not_wait(executor: ForkedExecutor) -> None:
    for attempt_id, what in (("1", "sleep"), ("2", "ignore")):
        executor.start(Order(attempt_id, Does(what)))
        drive(executor, until=Printed)
        executor.cancel(attempt_id, kill=attempt_id == "2")
        assert ended(drive(executor)).outcome == "cancelled"


def test_closing_its_output_does_not_make_the_loop_spin(executor: ForkedExecutor) -> None:
    executor.start(Order("1", Does("close")))
    polls = 0
    while True:
        poll = select.poll()
        for fd in executor.filenos():
            poll.register(fd, select.POLLIN)
        poll.poll(5000)
        polls += 1
        if any(isinstance(event, Ended) for event in executor.poll()):
            break
    assert polls < 10


def test_yielded_tasks_come_back_as_this_process_knows_them(executor: ForkedExecutor) -> None:
    executor.start(Order("1", Does("yield")))
    end = ended(drive(executor))
    assert end.outcome == "needs"
    assert end.requirements[0] is Does("print")


def test_yielded_task_that_cannot_be_sent_is_a_failure(executor: ForkedExecutor) -> None:
    executor.start(Order("1", Does("yield local")))
    end = ended(drive(executor))
    assert end.outcome == "failed"
    assert "cannot be handed to another process" in end.error


def test_child_has_a_session_of_its_own(executor: ForkedExecutor) -> None:
    executor.start(Order("1", Does("session")))
    events = drive(executor)
    printed = b"".join(event.data for event in events if isinstance(event, Printed))
    assert printed.split() == [b"True", str(os.getpid()).encode()]


def test_child_keeps_no_descriptor_of_the_state_or_of_other_children(tmp_path: Path) -> None:
    executor = ForkedExecutor(lambda task: False, hidden=str(tmp_path))
    with open(tmp_path / "ledger", "w"), open(tmp_path.parent / "other", "w"):
        executor.start(Order("1", Does("sleep")))
        drive(executor, until=Printed)
        of_first = {os.readlink(f"/proc/self/fd/{fd}") for fd in executor.filenos()} - {"anon_inode:[pidfd]"}
        executor.start(Order("2", Does("fds")))
        printed = b"".join(event.data for event in drive(executor) if isinstance(event, Printed)).decode()
    executor.close()
    targets = set(printed.splitlines())
    assert str(tmp_path / "ledger") not in targets
    assert str(tmp_path.parent / "other") in targets  # a task may use what importing the pipeline has opened
    assert len(of_first) == 2 and not of_first & targets


def test_close_leaves_no_process(tmp_path: Path) -> None:
    executor = ForkedExecutor(lambda task: False)
    executor.start(Order("1", Does("ignore")))
    drive(executor, until=Printed)
    executor.close()
    executor.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_child_dies_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "start.py").write_text(
        "import os, sys, time\n"
        "from jubako.flow.executors.executor import Order\nfrom jubako.flow.executors.forked import ForkedExecutor\n"
        "from jubako.flow.tasks.task import Task\n"
        "class T(Task):\n    def run(self):\n"
        "        open(sys.argv[1], 'w').write(str(os.getpid()))\n        time.sleep(600)\n"
        "ForkedExecutor(lambda task: False).start(Order('1', T()))\n"
        "while not (os.path.exists(sys.argv[1]) and os.path.getsize(sys.argv[1])): pass\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "start.py", "pid"], cwd=tmp_path, check=False, timeout=60)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        os.sched_yield()
