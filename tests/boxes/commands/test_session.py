"""A box for several commands and functions, as root and as an ordinary user."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jubako.boxes.commands.session import BoxSession
from jubako.errors import InputError, WorkError

pytestmark = pytest.mark.box


@contextmanager
def session(desk: Any) -> Iterator[BoxSession]:
    with BoxSession(state=desk.state) as box:
        yield box


def sh(box: BoxSession, line: str) -> int:
    return box.run(["/bin/sh", "-c", line]).exit_status


def kinds(desk: Any, box: BoxSession) -> dict[str, str]:
    prefix = f"{os.path.realpath(desk.home)}/"
    return {c.path.removeprefix(prefix): c.kind for c in box.changes if c.path.startswith(prefix)}


def test_commands_find_what_those_before_them_did_and_the_machine_nothing(desk: Any) -> None:
    def act() -> tuple[list[int], list[dict[str, str]], list[str]]:
        for name in ("kept", "gone", "edited"):
            Path(name).write_text(name)
        with session(desk) as box:
            statuses = [sh(box, "rm gone; echo more >> edited; mkdir folder")]
            seen = [kinds(desk, box)]
            statuses += [sh(box, "test ! -e gone && echo x > folder/x && echo back > gone"), sh(box, "cat folder/x")]
            seen += [kinds(desk, box)]
        return statuses, seen, sorted(os.listdir("."))

    statuses, seen, left = desk.do(act)
    assert statuses == [0, 0, 0]
    assert seen[0] == {"gone": "deleted", "edited": "modified", "folder": "added"}
    assert seen[1] == {"gone": "modified", "edited": "modified", "folder": "added", "folder/x": "added"}
    assert left == ["edited", "gone", "kept"]
    assert desk.boxes() == []


def test_function_sees_the_box_and_the_callers_memory_and_its_result_comes_back(desk: Any) -> None:
    def act() -> tuple[Any, bool, list[str]]:
        word = "from the caller"
        with session(desk) as box:
            sh(box, "echo there > file")
            result = box.call(lambda end: (word, Path("file").read_text(), os.environ["JUBAKO_BOX"] == box.id, end), 7)
            box.call(Path("made").write_text, "made")
            return result, os.path.exists("made"), sorted(kinds(desk, box))

    assert desk.do(act) == (("from the caller", "there\n", True, 7), False, ["file", "made"])


def test_function_is_shut_in_like_a_command(desk: Any) -> None:
    def look() -> dict[str, Any]:
        status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
        fds = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return {
            "first": os.getppid(),
            "filter": status["Seccomp"],
            "privileges": status["NoNewPrivs"],
            "directories": [os.readlink(fd) for fd in fds if os.path.isdir(fd) and not os.readlink(fd).endswith("/fd")],
            "state": os.path.exists(f"{desk.state_path}/boxes"),
        }

    def act() -> dict[str, Any]:
        outside = os.open("/", os.O_RDONLY)
        try:
            with session(desk) as box:
                return box.call(look)
        finally:
            os.close(outside)

    assert desk.do(act) == {"first": 1, "filter": "2", "privileges": "1", "directories": [], "state": False}


class Odd(Exception):
    """Can be pickled, and not made again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def raise_odd() -> None:
    raise Odd(1, 2)


def divide() -> float:
    return 1 / 0


@pytest.mark.parametrize(
    ("function", "kind", "part"),
    [
        (divide, ZeroDivisionError, "division by zero"),
        (lambda: sys.exit(3), SystemExit, "3"),
        (raise_odd, WorkError, "raise_odd: Odd, which cannot be pickled"),
        (lambda: lambda: None, WorkError, "what it returned cannot be pickled"),
        (lambda: os._exit(5), WorkError, "ended its process, with status 5, before it returned"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), WorkError, "with status 137, before it returned"),
    ],
    ids=["raises", "exits", "raises what cannot come back", "returns what cannot", "ends its process", "is killed"],
)
def test_function_that_does_not_return_a_value_is_an_error_of_the_caller(
    desk: Any, function: Callable[[], object], kind: type[BaseException], part: str
) -> None:
    def act() -> tuple[str, str, str]:
        with session(desk) as box, pytest.raises(kind) as caught:
            box.call(function)
        return type(caught.value).__name__, str(caught.value), "\n".join(getattr(caught.value, "__notes__", []))

    name, message, notes = desk.do(act)
    assert name == kind.__name__
    assert part in message
    assert ("Traceback" in notes) == (kind is not WorkError)


def test_function_may_return_more_than_a_pipe_holds(desk: Any) -> None:
    def act() -> int:
        with session(desk) as box:
            return len(box.call(lambda: b"x" * 5_000_000))

    assert desk.do(act) == 5_000_000


def test_function_has_the_callers_handlers_of_signals(desk: Any) -> None:
    def act() -> bool:
        handler = lambda *_: None  # noqa: E731
        signal.signal(signal.SIGUSR1, handler)
        with session(desk) as box:
            return box.call(lambda: signal.getsignal(signal.SIGUSR1) is handler)

    assert desk.do(act)


def test_what_is_asked_for_wrongly_is_refused(desk: Any) -> None:
    def act() -> list[str]:
        said = []
        with session(desk) as box:
            for argv in ("ls -l", [], [""], ["nul\0"]):
                with pytest.raises(InputError) as caught:
                    box.run(argv)
                said.append(str(caught.value))
        with pytest.raises(InputError) as caught:
            box.run(["true"])
        return [*said, str(caught.value)]

    first, *_, null, closed = desk.do(act)
    assert "'ls -l' is no list of words" in first
    assert "null byte" in null
    assert "is closed" in closed
