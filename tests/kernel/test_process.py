from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.children import fork_child, wait_for, wait_for_pidfd
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.namespaces import CLONE_NEWPID
from jubako.kernel.process import (
    kill_namespace,
    pidfd_open,
    pidfd_send_signal,
    set_child_subreaper,
    set_dumpable,
    set_no_new_privs,
    set_process_name,
)

if TYPE_CHECKING:
    from tests.conftest import Runner


def wait_forever() -> int:
    signal.pause()
    return 0


def test_pidfd_becomes_readable_when_the_process_ends() -> None:
    pid = fork_child(wait_forever)
    pidfd = pidfd_open(pid)
    living = wait_for_pidfd(pidfd, 0)
    pidfd_send_signal(pidfd, signal.SIGTERM)
    ended = wait_for_pidfd(pidfd, 10)
    status = wait_for(pid)
    with pytest.raises(ProcessLookupError):
        pidfd_send_signal(pidfd, signal.SIGTERM)
    os.close(pidfd)
    assert (living, ended, status) == (False, True, 128 + signal.SIGTERM)


def test_pidfd_of_nobody_is_refused() -> None:
    pid = fork_child(lambda: 0)
    wait_for(pid)
    with pytest.raises(ProcessLookupError, match="pidfd_open"):
        pidfd_open(pid)


def test_no_new_privs_shows_in_the_status(in_child: Runner) -> None:
    def status() -> bool:
        set_no_new_privs()
        return "NoNewPrivs:\t1\n" in Path("/proc/self/status").read_text()

    assert in_child(status)


def test_dumpable_off_gives_proc_files_to_root(in_user_child: Runner) -> None:
    def owners() -> tuple[int, int, int]:
        set_dumpable(dumpable=False)
        off = os.stat("/proc/self/environ").st_uid
        set_dumpable(dumpable=True)
        return off, os.stat("/proc/self/environ").st_uid, os.geteuid()

    off, on, uid = in_user_child(owners)
    assert (off, on) == (0, uid)


def test_process_name_is_the_one_ps_shows(in_child: Runner) -> None:
    def name() -> str:
        set_process_name("a-very-long-name-indeed")
        return Path("/proc/self/comm").read_text()

    assert in_child(name) == "a-very-long-nam\n"


def test_subreaper_inherits_orphans(in_child: Runner) -> None:
    def adopt() -> tuple[int, int]:
        set_child_subreaper()
        read_end, write_end = os.pipe()

        def leave_an_orphan() -> int:
            if os.fork() == 0:
                os.read(0, 0)
                os.write(write_end, str(os.getpid()).encode())
                signal.pause()
            return 0

        wait_for(fork_child(leave_an_orphan))
        orphan = int(os.read(read_end, 20))
        os.kill(orphan, signal.SIGKILL)
        return orphan, os.waitpid(-1, 0)[0]

    orphan, reaped = in_child(adopt)
    assert orphan == reaped


@pytest.mark.box
def test_kill_namespace_ends_everything_in_it_before_it_can_be_reaped(in_user_child: Runner) -> None:
    def kill() -> tuple[int, bool]:
        enter_user_namespace(CLONE_NEWPID)
        read_end, write_end = os.pipe()

        def first_process() -> int:
            for _ in range(3):
                if os.fork() == 0:
                    os.setsid()
                    os.write(write_end, b"x")
                    signal.pause()
            signal.pause()
            return 0

        pid = fork_child(first_process)
        pidfd = pidfd_open(pid)
        os.close(write_end)
        for _ in range(3):
            assert os.read(read_end, 1) == b"x"
        kill_namespace(pidfd)
        status = wait_for(pid)
        # Each of them held the pipe: its end is seen only when all are gone, and it must be seen at once.
        gone = bool(select.select([read_end], [], [], 0)[0]) and os.read(read_end, 1) == b""
        kill_namespace(pidfd)
        return status, gone

    assert in_user_child(kill) == (128 + signal.SIGKILL, True)
