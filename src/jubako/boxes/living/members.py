"""The processes of a living box, as its pid 1 sees them in the box's own /proc: listed, and made to hold still.

Holding still is SIGSTOP for every process that runs, until none is left that does. Those that were stopped already are
left alone afterwards. Children go on before their parents, so that no shell takes one for stopped.
"""

from __future__ import annotations

import os
import time

from jubako.kernel.signals import signal
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Member", "hold_still", "let_go_on", "read_members"]

_LONGEST = 200  # of a command that is shown
_STILL = frozenset("TtZXx")  # stopped, traced, dead
_WAITING = "D"  # for something that no signal interrupts
_WAIT_S = 0.001
_LONGEST_WAIT_S = 0.05
_TRIES = 1000


@record
class Member:
    """One process of the box. Its pid is the box's number for it."""

    pid: int
    parent: int
    state: str  # a letter, as in proc_pid_stat(5)
    cpu_s: float
    memory_bytes: int
    started_s: float  # after the machine was
    command: str


def read_members() -> list[Member]:
    """Every process of the box but pid 1, by pid. This is called in the box."""
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    found = []
    for name in os.listdir("/proc"):
        if not name.isdecimal() or name == "1":
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                head, _, rest = file.read().rpartition(b") ")
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read(_LONGEST * 4).rstrip(b"\0").split(b"\0")
        except OSError:  # it has ended
            continue
        fields = rest.split()
        shown = " ".join(os.fsdecode(word) for word in words) or f"[{os.fsdecode(head.partition(b'(')[2])}]"
        found.append(
            Member(
                pid=int(name),
                parent=int(fields[1]),
                state=fields[0].decode("ascii"),
                cpu_s=(int(fields[11]) + int(fields[12])) / tick,
                memory_bytes=int(fields[21]) * page,
                started_s=int(fields[19]) / tick,
                command=shown[:_LONGEST],
            )
        )
    return sorted(found, key=lambda member: member.pid)


def hold_still() -> list[int]:
    """Stops every process that isn't stopped; their pids, parents before children. TimeoutError, and all go on, if one
    cannot be: it waits for a device or a file system."""
    stopped: dict[int, None] = {}
    pause_s = _WAIT_S
    for _ in range(_TRIES):
        found = read_members()
        moving = [member for member in found if member.state not in _STILL]
        if not moving:
            return list(stopped)
        for member in moving:
            if member.pid not in stopped:
                stopped[member.pid] = None
                _send(member.pid, signal.SIGSTOP)
            elif member.state == _WAITING:
                # In vfork(2), perhaps, which ends when a child that is stopped by now executes its program.
                for child in found:
                    if child.parent == member.pid and child.pid in stopped and child.state in _STILL:
                        del stopped[child.pid]
                        _send(child.pid, signal.SIGCONT)
                        pause_s = min(pause_s * 2, _LONGEST_WAIT_S)
        time.sleep(pause_s)  # a process stops when it is next scheduled; nothing tells when that was
    let_go_on(list(stopped))
    raise TimeoutError(f"process {moving[0].pid} of the box does not hold still")


def let_go_on(stopped: Iterable[int]) -> None:
    """Lets the processes that `hold_still` stopped go on."""
    for pid in reversed(list(stopped)):
        _send(pid, signal.SIGCONT)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:  # it has ended
        return
