"""Finding and signalling everything a process has started, on real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from jubako.kernel.process_tree import find_tree, signal_tree


def is_living(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_tree_has_children_of_other_sessions_and_orphans_of_its_own(tmp_path: Path) -> None:
    script = (
        "setsid sleep 601 & echo $! > child; "  # a session of its own, still a child
        "(sleep 602 & echo $! > orphan); "  # its parent is gone, its session is ours
        "echo ready > ready; wait"
    )
    with subprocess.Popen(["sh", "-c", script], cwd=tmp_path, start_new_session=True) as top:
        while not (tmp_path / "ready").exists():
            os.sched_yield()
        members = {top.pid, int((tmp_path / "child").read_text()), int((tmp_path / "orphan").read_text())}
        assert members <= set(find_tree(top.pid))
        assert os.getpid() not in find_tree(top.pid)
        signal_tree(top.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while any(map(is_living, members)):
            assert time.monotonic() < deadline
            os.sched_yield()


def test_signal_to_a_tree_that_is_gone_is_nothing() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    signal_tree(process.pid, signal.SIGTERM)
