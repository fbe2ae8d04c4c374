"""A command in namespaces of its own: what comes back from there, whatever went wrong."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

import pytest

from jubako.boxes.commands.confine import Confinement, NotStarted
from jubako.boxes.commands.first import Program
from jubako.boxes.commands.supervise import Ended, run_confined
from jubako.boxes.views.apply import OperationFailed
from jubako.boxes.views.operations import MakeDirectory
from jubako.errors import BugError, ConflictError, InputError, JubakoError

pytestmark = pytest.mark.box


def run(make_view: Callable[[], Sequence[str]], *argv: str) -> Ended:
    confinement = Confinement(user_namespace=os.geteuid() != 0)
    return run_confined(Program(argv or ("true",), "/", {"PATH": os.defpath}), confinement, make_view)


def failing_with(error: Exception) -> Callable[[], Sequence[str]]:
    def make_view() -> Sequence[str]:
        raise error

    return make_view


@pytest.mark.parametrize(
    ("error", "kind", "message", "hint"),
    [
        (InputError("no\nsuch place", hint="look \udcff"), InputError, "no\nsuch place", "look \udcff"),
        (ConflictError("taken"), ConflictError, "taken", ""),
        (OperationFailed(MakeDirectory("/x"), OSError(errno.EIO, "broken")), NotStarted, "broken", ""),
        (PermissionError(errno.EPERM, "not allowed"), NotStarted, "cannot make the box: [Errno 1] not allowed", ""),
        (KeyError("of ours"), BugError, "KeyError: 'of ours'", ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_error_of_the_view_is_raised_in_the_caller(
    error: Exception, kind: type[JubakoError], message: str, hint: str
) -> None:
    with pytest.raises(kind) as caught:
        run(failing_with(error))
    assert type(caught.value) is kind
    assert message in caught.value.message
    assert caught.value.hint == hint


def test_notes_of_the_view_come_back_in_order_as_they_are() -> None:
    notes = ("one\nline", "", "two \udcff", "null \0")
    assert run(lambda: notes).notes == ("one\nline", "", "two \udcff", "null ?")


def test_command_that_is_not_there_is_said_and_not_raised() -> None:
    ended = run(lambda: ("note",), "no-such-program")
    assert (ended.exit_status, ended.notes) == (127, ("note",))
    assert ended.error == "cannot run 'no-such-program': No such file or directory"


def test_command_that_writes_into_the_report_is_no_error_of_the_caller() -> None:
    script = r"for f in /proc/1/fd/*; do printf 'garbage\0kind' > \"$f\"; done 2> /dev/null; exit 3"
    assert run(lambda: (), "sh", "-c", script.replace('\\"', '"')).exit_status == 3
