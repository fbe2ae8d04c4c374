"""Boxes where something runs out, or is taken away: descriptors, processes, inodes, mounts, calls, the state root; and
where signals interrupt every call. Each ends in one sentence that says what to do, and leaves nothing.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jubako.boxes.commands.shortage import explained
from jubako.errors import HostError
from jubako.kernel.filesystems import make_filesystem
from jubako.kernel.mounts import attach
from jubako.kernel.process import set_no_new_privs
from jubako.kernel.seccomp import Rule, compile_filter, install_filter

pytestmark = pytest.mark.box
Outcome = tuple[int, str, str]  # status, or -1 and the error's sentence and hint


def outcome(act: Callable[[], Any]) -> Outcome:
    try:
        with act() as result:
            return result.exit_status, result.error, ""
    except HostError as error:
        return -1, error.message, error.hint


def check(desk: Any, found: Outcome) -> None:
    """One sentence with a cure; and what could not be removed then, the next start removes."""
    status, sentence, hint = found
    if status == -1:
        assert sentence and "\n" not in sentence and "Traceback" not in sentence
        assert hint
    desk.do(lambda: desk.run("true").close())
    assert desk.boxes() == []


@pytest.mark.parametrize("files", range(4, 16))
def test_box_without_descriptors_is_made_or_refused_in_a_sentence(desk: Any, files: int) -> None:
    def act() -> Outcome:
        desk.state  # noqa: B018  made while there are descriptors
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        with_three = {"stdio": (0, 1, 2)}
        return outcome(lambda: desk_run(desk, with_three))

    found = desk.do(act)
    assert found[0] in (0, -1)
    if found[0] == -1:
        assert "Too many open files" in found[1]
    check(desk, found)


def desk_run(desk: Any, options: dict[str, Any]) -> Any:
    from jubako.boxes.commands.launch import run_in_box

    return run_in_box(["/bin/true"], state=desk.state, **options)


@contextmanager
def few_processes(count: int) -> Iterator[None]:
    """Lets this process and what it starts be `count` beside itself: by a limit, which does not count for root, or by a
    control group."""
    if os.geteuid() != 0:
        resource.setrlimit(resource.RLIMIT_NPROC, (count, count))
        yield
        return
    own = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if ":pids:" in line)
    home = Path("/sys/fs/cgroup/pids" + own.split(":", 2)[2])
    group = home / f"jubako-shortage-{os.getpid()}"
    group.mkdir()
    (group / "pids.max").write_text(str(count + 1))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (home / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


@pytest.mark.parametrize("count", range(4))
def test_box_without_processes_is_made_or_refused_in_a_sentence(desk: Any, count: int) -> None:
    def act() -> Outcome:
        with few_processes(count):
            return outcome(lambda: desk_run(desk, {}))

    found = desk.do(act)
    assert found[0] in (0, 126, -1)
    if count == 0:
        assert "fork: Resource temporarily unavailable" in found[1]
        assert "pids.max" in found[2]
    if found[0] != 0:
        assert "Resource temporarily unavailable" in found[1]
    check(desk, found)


FULL = ("unshare", "fsopen", "fsmount", "move_mount", "open_tree", "mount_setattr", "mount", "pidfd_open", "capset")
FAILURES = [
    *((name, errno.ENOSPC) for name in FULL),  # also what says that there may be no more mounts, or namespaces
    *((name, errno.EMFILE) for name in ("fsopen", "fsmount", "open_tree", "pidfd_open")),
    *((name, errno.ENOMEM) for name in ("seccomp", "close_range", "move_mount")),
]


@pytest.mark.parametrize(("name", "code"), FAILURES, ids=lambda part: errno.errorcode.get(part, part))
def test_box_for_which_a_call_fails_is_refused_and_the_call_named(desk: Any, name: str, code: int) -> None:
    def act() -> Outcome:
        set_no_new_privs()
        install_filter(compile_filter({name: Rule(code)}, os.uname().machine))
        return outcome(lambda: desk_run(desk, {}))

    found = desk.do(act)
    assert found[0] == -1
    assert f"{name}: {os.strerror(code)}" in found[1]
    check(desk, found)


@pytest.mark.parametrize("inodes", [5, 8, 12, 40])
def test_box_on_a_disk_without_inodes_is_refused_or_its_command_told(in_namespace: Any, inodes: int) -> None:
    from jubako.boxes.commands.launch import run_in_box
    from jubako.boxes.state import open_state_root

    def act() -> tuple[Outcome, list[str]]:
        os.mkdir("state")
        os.mkdir("home")
        attach(make_filesystem("tmpfs", {"nr_inodes": str(inodes), "mode": "700"}), "state")
        os.environ["HOME"] = "/mnt/home"
        os.chdir("home")
        state = open_state_root("/mnt/state")
        null = os.open(os.devnull, os.O_RDWR)
        script = f"for number in $(seq {inodes}); do : > file$number || exit 9; done"
        found = outcome(lambda: run_in_box(["/bin/bash", "-c", script], state=state, stdio=(null, null, null)))
        return found, os.listdir(state.boxes_path)

    found, left = in_namespace(act)
    assert found[0] in (9, 1, -1)  # the command finds no room, or there was none for a box
    if found[0] == -1:
        assert "No space left on device" in found[1]
        assert found[2]
    assert (found[0] == -1) or inodes > 5
    assert left == []


def test_box_whose_state_root_is_taken_away_meanwhile_says_what_is_gone(desk: Any) -> None:
    def act() -> Outcome:
        start, started = os.pipe()
        go, gone = os.pipe()
        thief = os.fork()
        if thief == 0:
            os.close(started)
            os.read(start, 1)  # the command runs
            shutil.rmtree(desk.state.boxes_path, ignore_errors=True)
            os.write(gone, b"\n")
            os._exit(0)
        script = "echo before > file; echo; read line; echo after > other; true"
        try:
            return outcome(lambda: desk.run(script, stdio=(go, started, 2)))
        finally:
            os.waitpid(thief, 0)

    status, sentence, _hint = desk.do(act)
    assert status == -1
    assert "what the command changed cannot be read: No such file or directory" in sentence
    assert desk.do(lambda: [os.listdir("."), desk.run("true").close()][0]) == []


EVERY = 5
HAMMER = """
import os, select, sys
group, heart = int(sys.argv[1]), int(sys.argv[2])
os.set_blocking(heart, False)
while True:
    try:
        if os.read(heart, 1) == b"":
            break
    except BlockingIOError:
        os.killpg(group, 28)  # SIGWINCH: what has no handler for it lives on
    select.select([], [], [], 0.0005)
"""


@pytest.mark.parametrize("rounds", [20, pytest.param(1000, marks=pytest.mark.soak)])
def test_box_and_commit_under_a_hail_of_signals_lose_nothing(desk: Any, rounds: int) -> None:
    def act() -> tuple[int, set[int], str]:
        os.setpgid(0, 0)
        heard = 0

        def hear(*_: object) -> None:
            nonlocal heard
            heard += 1

        signal.signal(signal.SIGWINCH, hear)
        heart, beat = os.pipe()
        hammer = subprocess.Popen(
            ["/usr/bin/python3", "-I", "-S", "-c", HAMMER, str(os.getpgid(0)), str(heart)],
            pass_fds=(heart,),
            process_group=0,
        )
        os.close(heart)
        try:
            statuses = set()
            for number in range(rounds):
                commits = number % EVERY == EVERY - 1  # they sync the disk
                with desk.run(f"echo {number} > file; test -e file", commit=["file"] if commits else []) as result:
                    statuses.add(result.exit_status)
                    assert len(desk.relative(result)) == (0 if commits else 1)
                if commits:
                    assert Path("file").read_text() == f"{number}\n"
        finally:
            os.close(beat)
            hammer.wait()
        return heard, statuses, Path("file").read_text()

    heard, statuses, text = desk.do(act)
    assert heard > rounds
    assert statuses == {0}
    assert text == f"{rounds - 1}\n"
    assert desk.boxes() == []


def test_explained_names_the_call_the_path_and_the_cure() -> None:
    with pytest.raises(HostError) as caught, explained("no box can be made"):
        raise OSError(errno.EMFILE, "fsopen: Too many open files", "/x")
    assert caught.value.message == "no box can be made: fsopen: Too many open files (/x)"
    assert "ulimit -n" in caught.value.hint
