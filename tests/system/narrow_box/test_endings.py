"""How jobs end, and what of them lives on: nothing, whatever they try."""

from __future__ import annotations

import os
import random
import select
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.job import Job

if TYPE_CHECKING:
    from tests.system.narrow_box.conftest import Bench

pytestmark = pytest.mark.box
DEADLINE_S = 20
SETTLED = 200  # looks in a row that see the same


def test_pipeline_is_loaded_once_and_every_job_starts_from_there(bench: Bench) -> None:
    assert bench.run("say_loaded").report == "preloaded"
    assert [bench.run("count").report for _ in range(3)] == ["1", "1", "1"]


def test_output_of_a_job_comes_back_in_order(bench: Bench) -> None:
    ran = bench.run(
        "python", "print('one', flush=True); os.write(2, b'two\\n'); os.system('echo three'); print('four')"
    )
    assert ran.printed == "one\ntwo\nthree\nfour\n"


def test_messages_of_a_job_come_back_in_order(bench: Bench) -> None:
    ran = bench.run("send_many", "2000")
    assert [int(message) for message in ran.messages] == [*range(2000)]


def test_large_payload_and_report_pass(bench: Bench) -> None:
    ran = bench.run("python", "answer = 'x' * 5_000_000  #" + "y" * 5_000_000)
    assert len(ran.report) == 5_000_000


def test_threads_of_a_job_are_waited_for(bench: Bench) -> None:
    path = bench.work / "out"
    ran = bench.run("use_threads", str(path), [path])
    assert ran.staged[str(path)].read_text() == "by a thread"


def test_cost_of_a_job_is_told(bench: Bench) -> None:
    ran = bench.run("python", "sum(range(1_000_000)); x = b'y' * 50_000_000")
    assert ran.finished.cpu_s > 0
    assert ran.finished.wall_s > 0
    assert ran.finished.peak_bytes > 50_000_000
    assert ran.finished.exit_status == 0


@pytest.mark.parametrize(
    ("call", "payload", "outcome", "error", "status"),
    [
        ("leave_at_once", "0", "failed", "ended with exit status 0 before it returned", 0),
        ("leave_at_once", "7", "failed", "ended with exit status 7 before it returned", 7),
        ("kill_itself", "11", "failed", "was killed by SIGSEGV", 139),
        ("kill_itself", "9", "failed", "was killed by SIGKILL; perhaps the machine ran out of memory", 137),
        ("leave_politely", "0", "ok", "", 0),
        ("leave_politely", "null", "ok", "", 0),
        ("leave_politely", "3", "failed", "exited with 3", 3),
        ("leave_politely", '"no"', "failed", "exited with 'no'", 1),
        ("close_everything", "", "failed", "ended with exit status 1 before it returned", 1),
        ("return_number", "", "failed", "TypeError: functions:return_number returned int, not bytes", 1),
        ("no_such_function", "", "failed", "AttributeError: module 'functions' has no attribute 'no_such_function'", 1),
    ],
)
def test_job_that_ends_on_its_own_is_understood(
    bench: Bench, call: str, payload: str, outcome: str, error: str, status: int
) -> None:
    ran = bench.run(call, payload)
    assert (ran.outcome, ran.finished.error, ran.finished.exit_status) == (outcome, error, status)


def test_job_that_takes_too_long_is_ended(bench: Bench) -> None:
    ran = bench.run("sleep", timeout_s=0.05)
    assert (ran.outcome, ran.finished.exit_status) == ("timeout", 128 + signal.SIGTERM)
    assert ran.finished.error == "took longer than its time limit"


def test_job_that_does_not_listen_is_killed_after_its_grace(bench: Bench) -> None:
    ran = bench.run("ignore_terminate", timeout_s=0.1, grace_s=0.05)
    assert (ran.outcome, ran.finished.exit_status) == ("timeout", 128 + signal.SIGKILL)


def test_time_limit_covers_the_check(bench: Bench) -> None:
    ran = bench.run("nothing", check="sleep", timeout_s=0.1)
    assert ran.outcome == "timeout"
    assert ran.finished.error == "the check took longer than its time limit"


def test_job_that_is_cancelled_is_ended(bench: Bench) -> None:
    job = Job("cancelled", "Test()", "functions:say_and_wait", b"", cwd=str(bench.work))
    finished, _, _ = bench.ask("cancel after it spoke", job)
    assert (finished.outcome, finished.exit_status) == ("cancelled", 128 + signal.SIGTERM)
    assert bench.run("say_loaded").report == "preloaded"


def test_daemon_with_an_open_output_is_dead_before_the_result_is_read(bench: Bench) -> None:
    path = bench.work / "out"
    ran = bench.run("leave_daemon", str(path), [path])
    staged = ran.staged[str(path)]
    size = staged.stat().st_size
    assert staged.read_text().startswith("done\n")
    assert bench.run("list_processes").report == "2", "pid 1 and the task"
    assert staged.stat().st_size == size


def test_fork_bomb_is_swept_up(bench: Bench) -> None:
    assert bench.run("fork_bomb").outcome == "ok"
    assert bench.run("list_processes").report == "2", "pid 1 and the task"


@pytest.mark.parametrize("nonsense", [b"\xff" * 9, b"R\3\0\0\0\0\0\0\0abc", b"F\2\0\0\0\0\0\0\0{}"])
def test_task_that_writes_nonsense_to_the_foreman_fails(bench: Bench, nonsense: bytes) -> None:
    ran = bench.run("write_nonsense", nonsense)
    assert ran.outcome in ("failed", "ok"), "a report is a report, whoever of the task wrote it"
    assert ran.outcome == "failed" or nonsense.startswith(b"R")
    assert bench.run("say_loaded").report == "preloaded"


def test_orphans_are_reaped_dead_or_alive(bench: Bench) -> None:
    for _ in range(5):
        assert bench.run("leave_zombies").outcome == "ok"
        assert bench.run("list_processes").report == "2", "pid 1 and the task"


def test_task_cannot_end_its_zygote(bench: Bench) -> None:
    assert bench.run("kill_all_others").report == "still here"
    assert bench.run("say_loaded").report == "preloaded"


def test_child_killed_at_any_moment_costs_its_own_job_at_most(bench: Bench) -> None:
    pid = bench.ask("pid")
    chance = random.Random(7)

    def kill_child(after_s: float) -> None:
        time.sleep(after_s)
        with suppress(ProcessLookupError, FileNotFoundError):  # it has ended by itself
            for child in descendants(pid)[2:]:
                os.kill(child, signal.SIGKILL)

    for number in range(40):
        killer = threading.Thread(target=kill_child, args=(chance.uniform(0, 0.006),))
        killer.start()
        ran = bench.run("shell", f"echo {number}")
        killer.join()
        assert (ran.outcome, ran.report) in [("ok", f"{number}\n"), ("failed", "")]
        assert ran.outcome == "ok" or "was killed by SIGKILL" in ran.finished.error
    assert bench.run("shell", "echo last").report == "last\n"


def test_flood_of_output_comes_whole(bench: Bench) -> None:
    ran = bench.run("flood", "3000000")
    assert ran.outcome == "ok"
    assert len(ran.printed) == 3_000_000


def test_worker_that_is_killed_answers_for_its_job_and_leaves_nothing(bench: Bench) -> None:
    pid = bench.ask("pid")
    others = descendants(pid)
    assert len(others) in (2, 3), "foreman, zygote, and the child forked ahead, if it is already"
    job = Job("killed", "Test()", "functions:say_and_wait", b"", cwd=str(bench.work))
    finished, _, _ = bench.ask("kill the worker after it spoke", job)
    assert (finished.job_id, finished.outcome) == ("killed", "host")
    assert "was killed by signal 9" in finished.error
    wait_for_the_end_of(others)
    assert bench.run("say_loaded").report == "preloaded", "from a new worker"


def test_pipeline_that_cannot_be_loaded_is_named(bench: Bench) -> None:
    with pytest.raises(Exception, match="the pipeline cannot be loaded: ValueError: a typo in the pipeline"):
        bench.ask("restart", {"preload": "functions:load_badly"})


@pytest.mark.parametrize(
    ("preload", "why"), [("load_with_thread", "starts 1 thread"), ("load_with_open_file", "for writing")]
)
def test_pipeline_that_must_not_be_forked_is_loaded_by_every_job(bench: Bench, preload: str, why: str) -> None:
    try:
        state = bench.ask("restart", {"preload": f"functions:{preload}"})
        assert state.mode == "fresh"
        (note,) = bench.ask("notes")
        assert why in note
        assert bench.run("say_loaded").report == "preloaded"
        assert bench.run("count").report == "1"
    finally:
        bench.ask("restart", {})
        (bench.home / "import.log").unlink(missing_ok=True)


def test_pipeline_that_puts_odd_streams_in_place_fails_its_tasks_and_hangs_nothing(bench: Bench) -> None:
    try:
        bench.ask("restart", {"preload": "functions:load_with_odd_streams"})
        ran = bench.run("nothing")
        assert (ran.outcome, ran.finished.error) == ("failed", "OSError: no room")
    finally:
        bench.ask("restart", {})


def test_exit_handlers_registered_after_the_fork_run_in_the_box_when_the_task_ends(bench: Bench) -> None:
    report = bench.work / "jubako-report"
    try:
        bench.ask("restart", {"preload": "functions:load_with_hook_after_fork"})
        ran = bench.run("count")
        assert (ran.outcome, ran.undeclared) == ("ok", [str(report)])
        assert not report.exists()
        assert not Path("/jubako-report").exists()
    finally:
        bench.ask("restart", {})


def test_many_jobs_leave_no_descriptor_mount_or_process(bench: Bench) -> None:
    path = bench.work / "out"
    pid = bench.ask("pid")
    bench.run("write", f'{{"{path}": "x"}}', [path], check="accept")
    before = settled_footprint(pid)
    for _ in range(20):
        assert bench.run("write", f'{{"{path}": "x"}}', [path], check="accept").outcome == "ok"
    assert comes_to(pid, before)


@pytest.mark.soak
def test_a_thousand_jobs_leave_nothing_and_no_memory(bench: Bench) -> None:
    path = bench.work / "out"
    pid = bench.ask("pid")
    for _ in range(50):
        bench.run("write_staged", f'{{"{path}": "x"}}', [path])
    before, memory = settled_footprint(pid), resident_bytes(pid)
    for _ in range(1000):
        assert bench.run("write_staged", f'{{"{path}": "x"}}', [path]).outcome == "ok"
    assert comes_to(pid, before)
    assert resident_bytes(pid) < memory + (1 << 20)


def footprint(pid: int) -> list[tuple[int, int]]:
    """Descriptors and mounts of a worker's lasting processes: supervisor, foreman, zygote."""
    return [(count(f"/proc/{one}/fd"), mounts(one)) for one in (pid, *descendants(pid)[:2])]


def settled_footprint(pid: int) -> list[tuple[int, int]]:
    """The footprint of a worker that waits: the zygote has its next child, and nothing is left to bury."""
    deadline = time.monotonic() + DEADLINE_S
    seen: list[list[tuple[int, int]]] = []
    while len(seen) < SETTLED or any(one != seen[-1] for one in seen[-SETTLED:]):
        assert time.monotonic() < deadline
        seen.append(footprint(pid))
    return seen[-1]


def comes_to(pid: int, expected: list[tuple[int, int]]) -> bool:
    """True when the last view is buried and the next child is forked, as the footprint shows."""
    deadline = time.monotonic() + DEADLINE_S
    while (found := footprint(pid)) != expected:
        if time.monotonic() > deadline:
            pytest.fail(f"the worker has {found} descriptors and mounts, it had {expected}")
    return True


def count(folder: str) -> int:
    return len(os.listdir(folder))


def mounts(pid: int) -> int:
    return len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines())


def resident_bytes(pid: int) -> int:
    pages = [int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in (pid, *descendants(pid)[:2])]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def descendants(pid: int) -> list[int]:
    found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [below for one in found for below in descendants(one)]


def wait_for_the_end_of(pids: list[int]) -> None:
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        ended = poll.poll(DEADLINE_S * 1000)
        os.close(pidfd)
        assert ended, f"process {pid} lives on"
