"""What the processes of a box use by now, added up one by one: for where no control group does it."""

from __future__ import annotations

import os
from contextlib import suppress

from jubako.kernel.process_tree import find_tree
from jubako.records import record

__all__ = ["TreeAccount", "read_tree"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MEMORY_FILE_SYSTEMS = ("/dev/shm", "/run")
_TIMES = slice(11, 15)  # utime, stime, and both of ended children, in /proc/PID/stat after the name


@record
class TreeAccount:
    """Seconds of processors of all that lives or has lived there, and the memory of what lives."""

    user_s: float
    system_s: float
    memory_bytes: int


def read_tree(pid: int, own_processes: int, *, with_memory: bool) -> TreeAccount:
    """The account of the child `pid` and all below it; the first `own_processes` are jubako's, whose memory is not
    counted. Memory that several share is shared out among them (PSS); files in the box's own memory file systems are
    memory, too."""
    user = system = memory = 0
    seen: set[int] = set()
    for number, member in enumerate(find_tree(pid)):
        with suppress(OSError):  # it has ended, and its parent has its times
            of_user, of_system = _read_ticks(member)
            user, system = user + of_user, system + of_system
            if with_memory and number >= own_processes:
                memory += _read_memory(member) + _read_memory_files(member, seen)
    return TreeAccount(user / _TICKS_PER_S, system / _TICKS_PER_S, memory)


def _read_ticks(pid: int) -> tuple[int, int]:
    """User's and system's, with those of children that were waited for."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        user, system, of_children, system_of_children = file.read().rpartition(b")")[2].split()[_TIMES]
    return int(user) + int(of_children), int(system) + int(system_of_children)


def _read_memory(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _read_memory_files(pid: int, seen: set[int]) -> int:
    """What lies in the memory file systems that a process sees and that this one does not, each once."""
    total = 0
    for place in _MEMORY_FILE_SYSTEMS:
        inside = f"/proc/{pid}/root{place}"
        with suppress(OSError):  # it has none, or is not ours to look into
            device = os.stat(inside).st_dev
            if device not in seen and device != os.stat(place).st_dev:
                space = os.statvfs(inside)
                total += (space.f_blocks - space.f_bfree) * space.f_frsize
            seen.add(device)
    return total
