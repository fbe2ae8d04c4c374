"""What podman needs to run a container on this kind of host, and what it leaves in the control groups."""

from __future__ import annotations

import os
import select
from pathlib import Path

# crun refuses cgroup v1 hybrid, and a limit above the present one needs CAP_SYS_RESOURCE
OPTIONS = [
    *("--runtime", "runc", "--cgroup-manager=cgroupfs", "--net=host"),
    *("--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"),
]
DEADLINE_MS = 30_000


def remove_groups() -> None:
    """Removes the control groups podman made, once its monitors, which outlive `podman run` a little, have ended."""
    for top in Path("/sys/fs/cgroup").glob("*/libpod_parent"):
        for left in sorted([top, *top.rglob("*/")], reverse=True):
            while pids := (left / "cgroup.procs").read_text().split():
                wait_for_end(int(pids[0]))
            left.rmdir()


def wait_for_end(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    ended = poll.poll(DEADLINE_MS)
    os.close(fd)
    assert ended, f"process {pid} of a container is still there after {DEADLINE_MS} ms"
