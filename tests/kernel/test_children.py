from __future__ import annotations

import os
import resource
import select
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.children import (
    close_descriptors_from,
    exit_status,
    fork_child,
    reap_all,
    reap_until,
    wait_for,
    wait_for_pidfd,
)
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.namespaces import CLONE_NEWPID
from jubako.kernel.process import pidfd_open

if TYPE_CHECKING:
    from tests.conftest import Runner


ORDINARY_UID = 54321  # needs no entry in /etc/passwd


def crash() -> int:
    raise RuntimeError("in the child")


def leave(status: object) -> int:
    sys.exit(status)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("run", "status"),
    [
        (lambda: 0, 0),
        (lambda: 7, 7),
        (lambda: leave(9), 9),
        (lambda: leave(None), 0),
        (lambda: os.kill(os.getpid(), signal.SIGKILL) or 0, 137),
    ],
)
def test_child_status_is_what_a_shell_shows(run, status: int) -> None:  # type: ignore[no-untyped-def]
    assert wait_for(fork_child(run)) == status


def test_child_that_raises_prints_it_and_ends_with_70(capfd: pytest.CaptureFixture[str]) -> None:
    assert wait_for(fork_child(crash)) == 70
    assert "RuntimeError: in the child" in capfd.readouterr().err


def test_child_prints_what_was_buffered_once(capfd: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        print("child", end="")  # noqa: T201
        return 0

    print("parent", end=" ")  # noqa: T201
    wait_for(fork_child(run))
    assert capfd.readouterr().out == "parent child"


def test_child_has_the_signal_mask_of_its_parent() -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    pid = fork_child(lambda: int(signal.pthread_sigmask(signal.SIG_BLOCK, []) != blocked))
    assert wait_for(pid) == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked


def test_status_of_a_child_is_known_where_sigchld_was_ignored(in_child: Runner) -> None:
    """As a program that was started by one that ignores it does."""

    def act() -> tuple[int, dict[int, int]]:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        first = wait_for(fork_child(lambda: 7))
        return first, {status: pid for pid, status in reap_all().items()}

    assert in_child(act) == (7, {})


def test_fork_that_is_refused_names_the_call(in_child: Runner) -> None:
    def act() -> str:
        if os.geteuid() == 0:
            os.setresuid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        with pytest.raises(BlockingIOError) as raised:
            fork_child(lambda: 0)
        return str(raised.value)

    assert in_child(act).endswith("fork: Resource temporarily unavailable")


def test_exit_status_of_a_core_dump_counts_the_signal_only() -> None:
    assert exit_status(signal.SIGSEGV | 0x80) == 128 + signal.SIGSEGV


def orphan_of_a_killed_parent(in_namespace_of_pids: bool) -> bool:
    """A parent forks a child that would wait for ever, and is killed; True if the child ended too."""
    read_end, write_end = os.pipe()

    def child() -> int:
        os.write(write_end, b"x")
        signal.pause()
        return 0

    def parent() -> int:
        if in_namespace_of_pids:
            enter_user_namespace(CLONE_NEWPID)
        fork_child(child)
        signal.pause()
        return 0

    pid = fork_child(parent)
    os.close(write_end)
    assert os.read(read_end, 1) == b"x"
    os.kill(pid, signal.SIGKILL)
    wait_for(pid)
    ready, _, _ = select.select([read_end], [], [], 10)
    return bool(ready) and os.read(read_end, 1) == b""  # the end of the pipe: nobody holds its other side


def test_child_dies_with_its_parent(in_child: Runner) -> None:
    assert in_child(lambda: orphan_of_a_killed_parent(False))


@pytest.mark.box
def test_child_in_another_pid_namespace_dies_with_its_parent(in_user_child: Runner) -> None:
    assert in_user_child(lambda: orphan_of_a_killed_parent(True))


def test_child_forked_by_a_parent_already_dead_runs_nothing(in_child: Runner) -> None:
    def race() -> bytes:
        """The parent is stopped in the fork and killed before its child can ask for the signal."""
        read_end, write_end = os.pipe()

        def middle() -> int:
            # The hook runs in the child before fork_child's own code: there it waits until the parent is dead. A pipe
            # would not do: a dying process closes its descriptors some time before it counts as dead.
            parent = pidfd_open(os.getpid())
            os.register_at_fork(after_in_child=lambda: wait_for_pidfd(parent))
            fork_child(lambda: os.write(write_end, b"it ran"))
            os.kill(os.getpid(), signal.SIGKILL)
            return 0

        wait_for(fork_child(middle))
        os.close(write_end)
        return os.read(read_end, 10)

    assert in_child(race) == b""


def test_reap_all_collects_every_child(in_child: Runner) -> None:
    def reap() -> bool:
        expected = {fork_child(lambda status=status: status): status for status in (0, 3, 5)}  # type: ignore[misc]
        return reap_all() == expected

    assert in_child(reap)


def test_reap_until_returns_with_the_one_waited_for(in_child: Runner) -> None:
    def reap() -> tuple[int, dict[int, int]]:
        read_end, write_end = os.pipe()
        fork_child(lambda: 1)
        last = fork_child(lambda: os.read(read_end, 1)[0])
        pidfd = pidfd_open(last)
        late = fork_child(lambda: int(not wait_for_pidfd(pidfd, 10)) + 3)
        os.write(write_end, b"\x05")
        status = reap_until(last)
        return status, {pid - late: code for pid, code in reap_all().items()}

    status, others = in_child(reap)
    assert status == 5
    assert others.get(0, 3) == 3


def test_wait_for_pidfd_that_lives_runs_out_of_time() -> None:
    pidfd = pidfd_open(os.getpid())
    ended = wait_for_pidfd(pidfd, 0.001)
    os.close(pidfd)
    assert not ended


def test_close_descriptors_keeps_the_ones_named(in_child: Runner) -> None:
    def which_are_open() -> list[int]:
        for fd in (50, 51, 52, 53, 300):
            os.dup2(2, fd)
        close_descriptors_from(51, keep=[52, 300, 2])
        return [fd for fd in (50, 51, 52, 53, 300) if os.path.exists(f"/proc/self/fd/{fd}")]

    # The answer's pipe is below 50, so it stays.
    assert in_child(which_are_open) == [50, 52, 300]
