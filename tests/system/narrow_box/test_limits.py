"""Tasks with limits, for real: what eats memory, forks or spins is stopped, and the failure names the limit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.limits import Limits
from jubako.boxes.spec import Box, Host
from jubako.kernel.process_tree import find_tree

if TYPE_CHECKING:
    from tests.system.narrow_box.conftest import Bench, Ran

pytestmark = pytest.mark.box
MB = 1 << 20


def run(bench: Bench, code: str, limits: Limits, **options: str) -> Ran:
    """Runs the code as a task; nothing of it is left in a control group, and the worker takes the next task."""
    ran = bench.run("python", code, box=Box(Host(), limits=limits), **options)
    ours = {str(pid) for pid in find_tree(bench.ask("pid"))}
    assert [path for path in Path("/sys/fs/cgroup").glob("**/jubako-RUN-*") if path.name.split("-")[-1] in ours] == []
    assert list((bench.state / "stage" / "RUN").glob("*.groups")) == []
    assert bench.run("python", "answer = 'fine'").report == "fine"
    return ran


def test_task_that_eats_memory_fails_and_names_the_limit(bench: Bench) -> None:
    ran = run(bench, "x = []\nwhile True: x.append(bytearray(4 << 20))", Limits(memory_bytes=100 * MB))
    assert ran.outcome == "failed"
    if bench.user == "root":
        assert ran.finished.error == "was killed: it used more than 100 MiB of memory"
        assert ran.finished.peak_bytes <= 130 * MB  # with what it shares with what it was forked from
    else:
        assert ran.finished.error.startswith("MemoryError")


def test_task_that_eats_memory_with_many_processes_fails_and_names_the_limit(bench: Bench) -> None:
    code = (
        "import signal\n"
        "for _ in range(8):\n"
        "    if os.fork() == 0:\n"
        "        x = b'x' * (30 << 20); signal.pause()\n"
        "while True:\n"
        "    if os.WIFSIGNALED(os.wait()[1]): raise MemoryError('of a child')\n"
    )
    ran = run(bench, code, Limits(memory_bytes=100 * MB))
    assert ran.outcome == "failed"
    assert "it used more than 100 MiB of memory" in ran.finished.error


def test_task_that_forks_without_end_is_refused_more_and_ends(bench: Bench) -> None:
    code = "import signal\nwhile True:\n    if os.fork() == 0: signal.pause()\n"
    ran = run(bench, code, Limits(pids=20))
    assert ran.outcome == "failed"
    assert ran.finished.error.startswith("BlockingIOError: [Errno 11] Resource temporarily unavailable")
    if bench.user == "root":
        assert "was refused more than 20 processes at a time" in ran.finished.error


def test_task_may_have_as_many_processes_as_it_was_given(bench: Bench) -> None:
    code = "import signal\nfor _ in range(9):\n    if os.fork() == 0: signal.pause()\nanswer = 'all'"
    assert run(bench, code, Limits(pids=10)).report == "all"


@pytest.mark.parametrize(
    "code", ["while True: pass", "while True: os.system('i=0; while [ $i -lt 9999 ]; do i=$((i+1)); done')"]
)
def test_task_that_uses_up_its_processor_time_is_killed_and_names_the_limit(bench: Bench, code: str) -> None:
    ran = run(bench, code, Limits(cpu_s=0.4))
    assert ran.outcome == "failed"
    assert ran.finished.error == "was killed: it used more than 0.4 s of processor time"


def test_time_that_earlier_tasks_have_used_is_not_counted(bench: Bench) -> None:
    run(bench, "while True: pass", Limits(cpu_s=0.4))
    assert run(bench, "answer = 'quick'", Limits(cpu_s=0.4)).report == "quick"


def test_limit_of_files_holds_in_the_task_and_not_in_the_next(bench: Bench) -> None:
    code = "import resource\nanswer = repr(resource.getrlimit(resource.RLIMIT_NOFILE))"
    assert run(bench, code, Limits(files=50)).report == "(50, 50)"
    assert bench.run("python", code).report != "(50, 50)"


def test_wall_time_is_the_tasks_time_limit(bench: Bench) -> None:
    ran = run(bench, "import signal\nsignal.pause()", Limits(wall_s=0.2))
    assert (ran.outcome, ran.finished.error) == ("timeout", "took longer than its time limit")


def test_check_has_the_limits_of_its_task_however_soon_it_follows(bench: Bench) -> None:
    for _ in range(25):  # at once, while the zygote may still be forking the next child
        ran = bench.run("python", "answer = ''", box=Box(limits=Limits(files=50)), check="check_files_are_fifty")
        assert ran.outcome == "ok", ran.finished.error


def test_limits_are_notes(bench: Bench) -> None:
    bench.run("python", "answer = ''", box=Box(limits=Limits(memory_bytes=100 * MB)))
    assert any(note.startswith("memory is limited to 100 MiB by") for note in bench.ask("notes"))


@pytest.mark.parametrize("limits", [Limits(disk_bytes=MB), {"pids": 5}], ids=["disk", "a dict"])
def test_limit_that_is_none_of_a_tasks_is_refused_by_name(bench: Bench, limits: Limits) -> None:
    ran = run(bench, "os.mkdir('made')", limits)
    assert ran.outcome == "host"
    assert "disk_bytes" in ran.finished.error or "Limits" in ran.finished.error
    assert not os.path.exists(bench.work / "made")
