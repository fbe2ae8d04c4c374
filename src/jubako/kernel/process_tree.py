"""Everything a child process has started, found and signalled, also what has run away into a session of its own.

A process that left its parent is still found by its session; one that left both is not, and is left alone. Processes
are held by pidfd between looking and signalling, so that a number that came to mean another process is never hit.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress

from jubako.kernel.process import pidfd_open, pidfd_send_signal

__all__ = ["find_tree", "signal_tree"]


def find_tree(pid: int) -> list[int]:
    """`pid`, all its living descendants, and the members of its session, parents before children."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    session: list[int] = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, ValueError):
                parent, of_session = _read_stat(name)
                children[parent].append(int(name))
                if of_session == pid:
                    session.append(int(name))
    found: dict[int, None] = {}
    waiting = [pid, *sorted(session)]
    while waiting:
        current = waiting.pop(0)
        if current not in found:
            found[current] = None
            waiting += children[current]
    return list(found)


def signal_tree(pid: int, signal_number: int) -> None:
    """Sends a signal to everything `find_tree` finds; those that ended meanwhile are fine."""
    held: list[int] = []
    try:
        for member in find_tree(pid):
            with suppress(ProcessLookupError):
                held.append(pidfd_open(member))
        for pidfd in held:
            with suppress(ProcessLookupError, PermissionError):
                pidfd_send_signal(pidfd, signal_number)
    finally:
        for pidfd in held:
            os.close(pidfd)


def _read_stat(name: str) -> tuple[int, int]:
    """Parent and session of a process; the command in the second field may hold spaces and parentheses."""
    with open(f"/proc/{name}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[1]), int(fields[3])
