"""How much of the machine a box may use. Values only; who enforces what is planned in `resources.plan_limits`.

Box(Host(whole=True), limits=Limits(memory_bytes=512 << 20, pids=100))
Box(Host(whole=True), limits=Limits())      nothing is limited, and what is used is measured as well as it can be
"""

from __future__ import annotations

from jubako.errors import InputError
from jubako.records import record

__all__ = ["LEAST_MEMORY_BYTES", "Limits", "format_bytes", "format_seconds"]

LEAST_MEMORY_BYTES = 16 << 20  # less, and what makes the box, a Python, could be what is killed
_LEAST_CPUS = 0.01  # the kernel's shortest quota is a millisecond in a period of 100
_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@record
class Limits:
    """The most that all processes of a box together may use; None is as much as there is."""

    memory_bytes: int | None = None
    cpus: float | None = None  # processors at a time: 1.5 is one and a half
    pids: int | None = None  # processes and threads at a time
    files: int | None = None  # open files, in each process
    wall_s: float | None = None  # then the command is asked to end (TERM), and `grace_s` later all of the box is killed
    cpu_s: float | None = None  # seconds of processors, user's and system's
    disk_bytes: int | None = None  # what is written to disk and still there
    grace_s: float = 5.0

    def __post_init__(self) -> None:
        problems = [
            f"{name}={value!r} is not {what}"
            for name, least, kind, what in (
                ("memory_bytes", LEAST_MEMORY_BYTES, int, f"a whole number from {LEAST_MEMORY_BYTES} (16 MiB) on"),
                ("cpus", _LEAST_CPUS, float, f"a number from {_LEAST_CPUS} on"),
                ("pids", 1, int, "a whole number from 1 on"),
                ("files", 4, int, "a whole number from 4 on"),
                ("wall_s", 0.0, float, "a number of seconds above 0"),
                ("cpu_s", 0.0, float, "a number of seconds above 0"),
                ("disk_bytes", 1, int, "a whole number from 1 on"),
            )
            if (value := getattr(self, name)) is not None and not _is_allowed(value, least, kind)
        ]
        if not _is_allowed(self.grace_s, -1.0, float) or self.grace_s < 0:
            problems.append(f"grace_s={self.grace_s!r} is not a number of seconds")
        if problems:
            raise InputError(f"limits that cannot be kept: {'; '.join(problems)}")


def format_bytes(size: int) -> str:
    """A size as limits are given, exact where it is a multiple of a unit: "512 MiB", "1.50 GiB", "100 bytes"."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size // unit} {name}" if size % unit == 0 else f"{size / unit:.2f} {name}"
    return f"{size} bytes"


def format_seconds(seconds: float) -> str:
    """A time as limits are given: "10 s", "0.25 s"."""
    return f"{seconds:g} s"


def _is_allowed(value: object, least: float, kind: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
        return False
    return least <= value < 1 << 62 and (least != 0 or value > 0)
