"""What goes wrong in the processes around a command comes back to the caller as the error it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.apply import OperationFailed
from jubako.boxes.operations import MountProc
from jubako.boxes.supervise import Confinement, Program, run_confined
from jubako.errors import ConflictError, HostError, InputError, JubakoError

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box

ERRORS = [
    (OperationFailed(MountProc("/gone"), FileNotFoundError(2, "no such directory")), HostError, "mount proc on /gone"),
    (InputError("not that", hint="this"), InputError, "not that"),
    (ConflictError("somebody else"), ConflictError, "somebody else"),
    (PermissionError(1, "not permitted", "/x"), HostError, "cannot make the box"),
]


@pytest.mark.parametrize(("error", "kind", "says"), ERRORS)
def test_error_of_the_view_reaches_the_caller_with_its_kind(
    error: Exception, kind: type[JubakoError], says: str, in_user_child: Runner
) -> None:
    def make_view() -> tuple[str, ...]:
        raise error

    def start() -> tuple[str, str, str]:
        confinement = Confinement(user_namespace=os.geteuid() != 0, network=True)
        try:
            run_confined(Program(["/bin/true"], "/", {}), confinement, make_view)
        except JubakoError as raised:
            return type(raised).__name__, raised.message, raised.hint
        return "", "", ""

    name, message, hint = in_user_child(start)
    assert name == kind.__name__
    assert says in message
    assert hint == getattr(error, "hint", "")
