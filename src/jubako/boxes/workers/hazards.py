"""Whether a process may be forked to run tasks: what importing a pipeline can leave behind that a fork breaks.

A forked child has one thread, and a copy of every lock as it stood: one held by another thread stays held for ever. A
GPU context does not survive a fork at all. A connection is then shared by two who talk at once, and a file open for
writing leads past the box. Each of these means that tasks import the pipeline themselves, which is slower and right.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["find_hazards", "list_descriptors"]

_GPU_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/", "/dev/dxg")
_ACCESS = os.O_ACCMODE


def find_hazards(ours: Collection[int]) -> tuple[str, ...]:
    """What speaks against forking this process, in words; nothing if it is safe. `ours` are descriptors to overlook.

    Libraries such as OpenBLAS start threads when imported and end them when the process forks. So a child is forked for
    trial if there are several threads: those that are gone afterwards do no harm.
    """
    hazards = []
    if _count_threads() > 1:
        _fork_for_trial()
        threads = _count_threads()
        if threads > 1:
            hazards.append(f"starts {threads - 1} thread{'s' if threads > 2 else ''}")
    for fd in list_descriptors():
        if fd not in ours:
            hazard = _judge_descriptor(fd)
            if hazard and hazard not in hazards:
                hazards.append(hazard)
    return tuple(hazards)


def list_descriptors() -> tuple[int, ...]:
    """The descriptors this process has open, sorted, from 3 up."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and _is_open(fd):  # the one that listed them is closed by now
            found.append(fd)
    return tuple(sorted(found))


def _judge_descriptor(fd: int) -> str:
    """What is wrong with forking while `fd` is open, "" if nothing is."""
    path = os.readlink(f"/proc/self/fd/{fd}")
    if path.startswith(_GPU_DEVICES):
        return f"opens a GPU ({path})"
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return "opens a network connection or another socket"
    if stat.S_ISREG(mode) and _open_flags(fd) & _ACCESS != os.O_RDONLY:
        return f"opens {path} for writing"
    return ""


def _open_flags(fd: int) -> int:
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == "flags":
                return int(value, 8)
    return os.O_RDONLY


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _count_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _fork_for_trial() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
