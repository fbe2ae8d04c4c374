"""A program in new namespaces from Python, by root and by an ordinary user: its status, and what is raised here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.namespaces.execute import NotExecuted
from jubako.boxes.namespaces.unshare import run_unshared
from jubako.boxes.namespaces.unshare_options import Unshare
from jubako.errors import HostError, InputError

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box
AS_ROOT = {"map_user": 0, "map_group": 0}


def test_status_is_that_of_the_program(in_user_child: Runner) -> None:
    def run() -> list[int]:
        script = "test $$ = 1 && test $(id -u) = 0 && exit 7"
        alone = Unshare(new=["pid"], fork=True, map_user=0, map_group=0)
        in_place = Unshare(map_user=0, map_group=0)
        return [run_unshared(["sh", "-c", text], options) for text, options in ((script, alone), ("kill $$", in_place))]

    assert in_user_child(run) == [7, 128 + 15]


def test_step_refused_in_the_last_child_is_raised_here(in_user_child: Runner) -> None:
    def refused() -> tuple[str, str]:
        with pytest.raises(HostError) as caught:
            run_unshared(["true"], Unshare(fork=True, root="/nowhere", map_user=0))
        return caught.value.message, caught.value.hint

    message, _ = in_user_child(refused)
    assert message == "cannot change the root directory: chroot: No such file or directory: /nowhere"


def test_program_that_is_not_there_is_raised_here_with_its_status() -> None:
    with pytest.raises(NotExecuted, match="cannot run '/nowhere'") as caught:
        run_unshared(["/nowhere"], Unshare(fork=True))
    assert caught.value.exit_status == 127


def test_contradiction_is_raised_before_anything_is_started() -> None:
    with pytest.raises(InputError, match="add --time"):
        run_unshared(["true"], Unshare(monotonic_s=1))


def test_nothing_is_left_of_helpers_that_were_not_needed_in_the_end(in_user_child: Runner) -> None:
    def leave() -> tuple[list[str], list[str]]:
        before = os.listdir("/proc/self/fd")
        with pytest.raises(HostError, match=r"^cannot (map users into|make the uts)"):
            run_unshared(["true"], Unshare(new=["mount"], persist={"uts": "/none"}, map_users=["all"], root="/none"))
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        return before, os.listdir("/proc/self/fd")

    before, after = in_user_child(leave)
    assert after == before
