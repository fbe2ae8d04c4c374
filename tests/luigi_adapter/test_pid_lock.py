"""One command line at a time: who counts, what is told, and what is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import HostError
from jubako.luigi.pid_lock import acquire_for, get_info, getpcmd

# Says when it has the lock, and waits to be ended.
HOLDER = """
import signal, sys, time
from jubako.luigi.pid_lock import acquire_for
signal.signal(signal.SIGUSR1, lambda *_: (print("told", flush=True), sys.exit(0)))
print(acquire_for(sys.argv[1], int(sys.argv[2])), flush=True)
time.sleep(60)
"""
TAKER = HOLDER.replace("int(sys.argv[2])", "1, signal.SIGUSR1")


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def start(started: list[subprocess.Popen[str]], code: str, folder: Path, available: int = 1) -> str:
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(available)], stdout=subprocess.PIPE, text=True
    )
    started.append(process)
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_second_process_with_the_same_command_line_is_refused(
    started: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    assert start(started, HOLDER, tmp_path / "locks") == "True"
    assert start(started, HOLDER, tmp_path / "locks") == "False"
    started[0].kill()
    started[0].wait()
    assert start(started, HOLDER, tmp_path / "locks") == "True"


def test_so_many_may_run_as_the_lock_has_places(started: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    assert [start(started, HOLDER, tmp_path, 2) for _ in range(3)] == ["True", "True", "False"]


def test_other_command_lines_do_not_count(started: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    assert start(started, HOLDER, tmp_path) == "True"
    assert acquire_for(str(tmp_path))


def test_taker_tells_the_holder_to_wind_down(tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    path = get_info(str(tmp_path))[2]
    holder = subprocess.Popen(
        [sys.executable, "-c", "import signal, time; signal.pause()"], stdout=subprocess.PIPE, text=True
    )
    started.append(holder)
    Path(path).write_text(f"{holder.pid}\n{os.getpid()}\n\n")
    assert acquire_for(str(tmp_path), kill_signal=signal.SIGUSR1)  # another command line: not told, and forgotten
    assert holder.poll() is None
    assert Path(path).read_text() == f"{os.getpid()}\n"
    assert start(started, TAKER, tmp_path) == "True"
    assert start(started, TAKER, tmp_path) == "True"
    assert started[1].communicate(timeout=30)[0] == "told\n"


def test_lock_directory_of_another_user_is_passed_by_for_one_beside_it(in_user_child: Any) -> None:
    def take() -> tuple[bool, list[str], int]:
        with tempfile.TemporaryDirectory() as place:
            os.mkdir(f"{place}/locks", 0o500)  # as good as another user's
            taken = acquire_for(f"{place}/locks/")
            [folder] = [name for name in os.listdir(place) if os.listdir(f"{place}/{name}")]
            return taken, [folder.replace(str(os.geteuid()), "UID")], os.stat(f"{place}/{folder}").st_mode & 0o777

    taken, folder, mode = in_user_child(take)
    # Nothing is forbidden to root.
    assert (taken, folder, mode) in [(True, ["locks.UID"], 0o700), (True, ["locks"], 0o500)]
    assert folder == ["locks.UID"] or os.geteuid() == 0


def test_lock_directory_that_somebody_else_put_there_is_refused(in_user_child: Any) -> None:
    def take() -> list[str]:
        with tempfile.TemporaryDirectory() as place:
            os.mkdir(f"{place}/elsewhere")
            os.symlink(f"{place}/elsewhere", f"{place}/locks.{os.geteuid()}")
            os.mkdir(f"{place}/locks", 0o500)
            with suppress(HostError):
                acquire_for(f"{place}/locks")
            return os.listdir(f"{place}/elsewhere")

    assert in_user_child(take) == []


def test_lock_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "locks").touch()
    with pytest.raises(HostError, match="/locks: Not a directory"):
        acquire_for(str(tmp_path / "locks"))


def test_command_line_of_a_process_that_is_gone_is_a_stand_in() -> None:
    assert getpcmd(os.getpid()).split()[0].endswith(os.path.basename(sys.executable)) or "pytest" in getpcmd(
        os.getpid()
    )
    assert getpcmd(2**22 + 1) == f"[PROCESS_WITH_PID={2**22 + 1}]"
