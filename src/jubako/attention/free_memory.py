"""How much memory this process may still take: what the machine has left, within the limits of its control groups."""

from __future__ import annotations

import os

from jubako.errors import HostError

__all__ = ["SizeError", "find_free_bytes", "require_free"]

_TOTALS = "/proc/meminfo"
_GROUPS = "/sys/fs/cgroup"


class SizeError(HostError, MemoryError):
    """What this machine has no memory for. `needed_bytes` and `available_bytes` say how much is missing."""

    def __init__(self, message: str, *, needed_bytes: int = 0, available_bytes: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes


def find_free_bytes() -> int | None:
    """Bytes that could be had now; None where the system does not say."""
    known = [found for found in (_read_available(), *_read_groups()) if found is not None]
    return min(known, default=None)


def require_free(needed_bytes: int, limit_bytes: int | None, what: str, hint: str = "") -> None:
    """SizeError, with `what` takes so much, if that is more than `limit_bytes`, or, without a limit, than is free."""
    there = find_free_bytes() if limit_bytes is None else limit_bytes
    if there is not None and needed_bytes > there:
        raise SizeError(
            f"{what} {needed_bytes / (1 << 30):.1f} GiB, and {there / (1 << 30):.1f} GiB are free",
            needed_bytes=needed_bytes,
            available_bytes=there,
            hint=hint,
        )


def _read_available() -> int | None:
    """What the kernel holds to be available without swapping (proc_meminfo(5))."""
    for line in _read(_TOTALS).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return None


def _read_groups() -> list[int]:
    """What the control groups of this process, version 2, leave of their limits; their caches count as free."""
    place = next((line[3:] for line in _read("/proc/self/cgroup").splitlines() if line.startswith("0::")), "")
    left = []
    while place not in ("", "/"):
        limit = _read(f"{_GROUPS}{place}/memory.max").strip()
        if limit.isdigit():
            used = int(_read(f"{_GROUPS}{place}/memory.current").strip() or 0)
            counts = dict(line.split() for line in _read(f"{_GROUPS}{place}/memory.stat").splitlines())
            left.append(max(0, int(limit) - used + int(counts.get("inactive_file", 0))))
        place = os.path.dirname(place)
    return left


def _read(path: str) -> str:
    """The content of one of the kernel's files, or "" where it has none."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""
