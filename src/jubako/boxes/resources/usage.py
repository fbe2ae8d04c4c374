"""What a box has used, and which limit it met, in words. Pure.

Control groups count everything that was in the box. Where there are none, the kernel's account of ended processes says
the seconds, and of memory only what the largest process had, which is at least what jubako itself takes to start one.
"""

from __future__ import annotations

from jubako.boxes.limits import format_bytes, format_seconds
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from jubako.boxes.limits import Limits
    from jubako.boxes.resources.groups import Readings

__all__ = ["Ending", "Stopped", "Usage", "describe_exceeded", "make_usage"]

Stopped: TypeAlias = "Literal['', 'wall', 'cpu', 'memory', 'disk']"

_KILLED = 128 + 9
_OUT_OF_CPU = 128 + 24  # SIGXCPU
_TOO_LARGE = 128 + 25  # SIGXFSZ


@record
class Usage:
    """What a box used until it ended; None is what nobody has counted."""

    wall_s: float
    user_s: float
    system_s: float
    peak_memory_bytes: int | None  # of all together, or (`memory_of == "process"`) of the largest process
    memory_of: Literal["box", "process"]
    written_bytes: int  # of what is in the box's top at the end
    most_processes: int | None  # at a time


@record
class Ending:
    """How the box's processes ended: the command's status, by whose doing, and what the kernel's account says."""

    exit_status: int
    stopped: Stopped = ""  # by the watch
    wall_s: float = 0.0
    user_s: float = 0.0
    system_s: float = 0.0
    peak_bytes: int = 0  # of the largest process


def make_usage(ending: Ending, readings: Readings | None, written_bytes: int) -> Usage:
    """The groups' account where there is one, else that of ended processes."""
    has_memory = readings is not None and readings.peak_memory_bytes is not None
    return Usage(
        wall_s=ending.wall_s,
        user_s=ending.user_s if readings is None or readings.user_s is None else readings.user_s,
        system_s=ending.system_s if readings is None or readings.system_s is None else readings.system_s,
        peak_memory_bytes=readings.peak_memory_bytes if readings is not None and has_memory else ending.peak_bytes,
        memory_of="box" if has_memory else "process",
        written_bytes=written_bytes,
        most_processes=None if readings is None else readings.most_processes,
    )


def describe_exceeded(limits: Limits, ending: Ending, readings: Readings | None, whom: str) -> tuple[str, ...]:
    """A sentence for each limit that was met; `whom` is "the command" or "the task"."""
    said: list[str] = []
    if ending.stopped == "wall" and limits.wall_s is not None:
        said.append(f"{whom} was ended: it took longer than {format_seconds(limits.wall_s)}")
    if limits.cpu_s is not None and (ending.stopped == "cpu" or ending.exit_status == _OUT_OF_CPU):
        said.append(f"{whom} was killed: it used more than {format_seconds(limits.cpu_s)} of processor time")
    if limits.disk_bytes is not None and (ending.stopped == "disk" or ending.exit_status == _TOO_LARGE):
        said.append(f"{whom} was killed: it wrote more than {format_bytes(limits.disk_bytes)}")
    killed = 0 if readings is None else readings.killed_for_memory
    if limits.memory_bytes is not None and (killed or ending.stopped == "memory"):
        used = f"used more than {format_bytes(limits.memory_bytes)} of memory"
        if ending.stopped == "memory" or (ending.exit_status == _KILLED and not ending.stopped):
            said.append(f"{whom} was killed: it {used}")
        else:
            what = "1 process was" if killed == 1 else f"{killed} processes were"
            said.append(f"{what} killed in the box: it {used}")
    if readings is not None and readings.refused_processes and limits.pids is not None:
        said.append(f"{whom} was refused more than {limits.pids} processes at a time")
    return tuple(said)
