"""The runner's end of a worker: what it refuses, and how it ends. What jobs see is in tests/system/narrow_box."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.job import Finished, Job
from jubako.boxes.spec import Box, Host
from jubako.boxes.workers import supervisor
from jubako.boxes.workers.wire import Channel, Ready, Setup, read_message
from jubako.boxes.workers.worker import Worker
from jubako.errors import BugError, HostError
from jubako.kernel import mounts
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.namespaces import CLONE_NEWNS, unshare
from jubako.kernel.overlay import Overlay, mount_overlay

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box
DEADLINE_S = 30
ORDINARY_UID = 54321  # needs no entry in /etc/passwd


def job(name: str, call: str = "os:getpid") -> Job:
    return Job(name, f"Test({name})", call, b"")


def finish(worker: Worker) -> Finished:
    while select.select([worker], [], [], DEADLINE_S)[0]:
        for event in worker.receive():
            if isinstance(event, Finished):
                return event
    pytest.fail("the worker said nothing")


def test_job_may_be_submitted_before_the_worker_is_ready() -> None:
    with Worker.start() as worker:
        worker.submit(job("early"))
        assert worker.job is not None
        finished = finish(worker)
        assert worker.state is not None
        assert worker.state.mode == "fork"
        assert worker.job is None
    assert (finished.job_id, finished.outcome) == ("early", "failed")
    assert "takes no arguments" in finished.error


def test_second_job_at_once_is_our_mistake() -> None:
    with Worker.start() as worker:
        worker.submit(job("one"))
        with pytest.raises(BugError, match="two is submitted while one runs"):
            worker.submit(job("two"))


def test_worker_that_died_refuses_jobs_and_says_how_it_died() -> None:
    with Worker.start() as worker:
        worker.wait_until_ready(DEADLINE_S)
        os.kill(worker.pid, signal.SIGKILL)
        while worker.is_alive:
            select.select([worker], [], [], DEADLINE_S)
            assert worker.receive() == []
        with pytest.raises(HostError, match="was killed by signal 9"):
            worker.submit(job("late"))


def test_worker_whose_pipeline_cannot_be_loaded_answers_for_its_job() -> None:
    with Worker.start("no_such_module:load") as worker:
        worker.submit(job("one"))
        finished = finish(worker)
        assert (finished.job_id, finished.outcome) == ("one", "host")
        assert "the pipeline cannot be loaded: ModuleNotFoundError" in finished.error
        assert not worker.is_alive
        assert worker.state is not None
        assert "No module named 'no_such_module'" in worker.state.traceback
        with pytest.raises(HostError):
            worker.wait_until_ready(DEADLINE_S)


def test_worker_that_is_not_ready_in_time_is_said() -> None:
    with Worker.start("time:sleep") as worker, pytest.raises(TimeoutError):
        worker.wait_until_ready(0)


def test_closing_ends_a_running_job_and_may_be_repeated() -> None:
    worker = Worker.start()
    worker.submit(job("one", "signal:pause"))
    worker.close()
    worker.close()
    assert not worker.is_alive


def test_cancelling_what_does_not_run_does_nothing() -> None:
    with Worker.start() as worker:
        worker.cancel("nothing")
        worker.submit(job("one"))
        worker.cancel("another")
        assert finish(worker).job_id == "one"


@pytest.mark.parametrize(
    ("box", "why"),
    [
        (Box(), "the kernel refused"),
        pytest.param(
            Box(Host(whole=True)),
            "does not stack on",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root's wide view has every mount"),
        ),
    ],
)
def test_directory_that_the_kernel_will_not_overlay_is_read_only_and_said(in_child: Runner, box: Box, why: str) -> None:
    """An overlay of an overlay of an overlay is one too many: what a box in a box in a container would be."""

    def work() -> tuple[str, str, str, list[str]]:
        if os.geteuid() == 0:
            unshare(CLONE_NEWNS)
        else:
            enter_user_namespace(CLONE_NEWNS)
        mounts.mount("none", "/", "", mounts.MS_REC | mounts.MS_PRIVATE)
        mounts.attach(tmpfs(), "/mnt")
        lower = "/mnt/0"
        os.mkdir(lower)
        for level in "12":
            for name in ("", "u", "w"):
                os.mkdir(f"/mnt/{level}{name}")
            overlay = Overlay((lower,), f"/mnt/{level}u", f"/mnt/{level}w", userxattr=os.geteuid() != 0)
            mount_overlay(overlay, f"/mnt/{level}")
            lower = f"/mnt/{level}"
        with Worker.start(cwd=lower) as worker:
            worker.submit(Job("one", "Test(one)", "os:rmdir", b"empty", cwd=lower, box=box))
            first = finish(worker)
            worker.submit(Job("two", "Test(two)", "os:mkdir", b"new", cwd=lower, box=box))
            second = finish(worker)
            return first.error, second.outcome, second.error, worker.take_notes()

    removing, outcome, error, notes = in_child(work)
    assert "empty is read-only in this box" in removing
    assert outcome == "failed"
    assert "new is read-only in this box" in error
    assert [note for note in notes if why in note and "/mnt/2" in note]


def test_killing_the_runner_ends_all_of_its_worker() -> None:
    read_end, write_end = os.pipe()
    runner = os.fork()
    if runner == 0:
        try:
            worker = Worker.start()
            worker.wait_until_ready(DEADLINE_S)
            worker.submit(job("one", "signal:pause"))
            os.write(write_end, b"%d" % worker.pid)
            signal.pause()
        finally:
            os._exit(1)
    os.close(write_end)
    supervisor = int(os.read(read_end, 100))
    os.close(read_end)
    pidfds = [os.pidfd_open(pid) for pid in descendants(supervisor)]
    os.kill(runner, signal.SIGKILL)
    os.waitpid(runner, 0)
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], DEADLINE_S)[0], "a process of the worker lives on"
        os.close(pidfd)
    assert len(pidfds) >= 3


def descendants(pid: int) -> list[int]:
    """`pid` and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(below for child in children for below in descendants(int(child)))]


SLOW = """
import os, select, stat

def load(argument):
    \"\"\"Says that it is here, and returns when the foreman's end of a socket has been closed.\"\"\"
    poll = select.poll()
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                poll.register(int(name), 0)
        except OSError:
            continue
    open(argument, "wb").close()
    poll.poll()
"""


def test_worker_that_is_closed_while_it_loads_the_pipeline_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its zygote then speaks to a foreman that has ended, before the kernel has killed it for that."""
    name = f"slow_{os.getpid()}"
    (tmp_path / f"{name}.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    os.mkfifo(tmp_path / "here")
    for _ in range(4):
        with Worker.start(f"{name}:load", os.fsencode(tmp_path / "here")):
            (tmp_path / "here").read_bytes()  # until the other end is opened and closed
    assert capfd.readouterr().err == ""


def test_worker_that_may_start_no_process_says_so_with_the_cure(in_child: Runner) -> None:
    def act() -> Ready:
        if os.geteuid() == 0:
            os.setresuid(ORDINARY_UID, ORDINARY_UID, ORDINARY_UID)  # root may always
        ours, theirs = socket.socketpair()
        Channel(ours.fileno()).send(
            Setup(preload="", preload_argument=b"", sys_path=(), cwd="/", hidden=(), scratch_root="")
        )
        if os.fork() == 0:
            ours.close()
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            supervisor.main(theirs.fileno())
        theirs.close()
        ours.setblocking(True)
        answer = read_message(ours.fileno())
        os.wait()
        assert isinstance(answer, Ready)
        return answer

    ready = in_child(act)
    assert ready.error.startswith("a worker's processes cannot be started: ")
    assert ready.error.endswith("fork: Resource temporarily unavailable")
    assert "ulimit -u" in ready.hint
