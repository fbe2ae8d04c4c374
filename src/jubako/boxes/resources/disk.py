"""How much of the disk a box takes, while it writes: what lies in its directories, and what its processes hold open
though it lies in none any more. What vanishes meanwhile is not counted."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["find_open_files", "measure_deleted", "measure_directories"]

_BLOCK_BYTES = 512  # what st_blocks counts in, whatever the file system
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONG_PATH = 2048  # with a name below it, still a path that the kernel takes
_MOST_HELD = 64
_IN_MEMORY = ("/memfd:", "/dev/", "/run/", "/proc/")


def measure_directories(paths: Iterable[str]) -> int:
    """The bytes that all files at and below `paths` take, each once. Directories that cannot be read count as empty."""
    total = 0
    seen: set[tuple[int, int]] = set()  # of files with several names
    for path in paths:
        with suppress(OSError):
            top = os.open(path, _OPEN)
            try:
                total += _measure_tree(top, seen)
            finally:
                os.close(top)
    return total


def _measure_tree(top: int, seen: set[tuple[int, int]]) -> int:
    """Depth costs nothing: directories are opened by their path from the top, or from one far below it, held open."""
    total = 0
    held: list[int] = []
    waiting = [(top, ".")]
    try:
        while waiting:
            base, path = waiting.pop()
            with suppress(OSError):  # it is gone, or shut to us
                fd = os.open(path, _OPEN, dir_fd=base)
                try:
                    below = []
                    with os.scandir(fd) as entries:
                        for entry in entries:
                            with suppress(OSError):  # it is gone
                                found = entry.stat(follow_symlinks=False)
                                total += _count(found, seen, several=1) if not stat.S_ISDIR(found.st_mode) else 0
                                below += [entry.name] if stat.S_ISDIR(found.st_mode) else []
                    if len(path) < _LONG_PATH or not below:
                        waiting += [(base, f"{path}/{name}") for name in below]
                    elif len(held) < _MOST_HELD:
                        held.append(os.dup(fd))
                        waiting += [(held[-1], name) for name in below]
                finally:
                    os.close(fd)
    finally:
        for fd in held:
            os.close(fd)
    return total


def find_open_files() -> frozenset[tuple[int, int]]:
    """Device and inode of what this process has open, and a box may be given as its output."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the descriptor that listed them
            state = os.fstat(int(name))
            found.add((state.st_dev, state.st_ino))
    return frozenset(found)


def measure_deleted(pids: Iterable[int], known: frozenset[tuple[int, int]] = frozenset()) -> int:
    """The bytes of the files that these processes have open and nobody can open any more, each once; `known` ones,
    which were open before, are not theirs."""
    total = 0
    seen = set(known)
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        with suppress(OSError):  # it has ended, or is not ours to look into: pid 1, which holds none
            for name in os.listdir(folder):
                with suppress(OSError):  # it was closed
                    target = os.readlink(f"{folder}/{name}")
                    if target.endswith(" (deleted)") and not target.startswith(_IN_MEMORY):
                        found = os.stat(f"{folder}/{name}")
                        if stat.S_ISREG(found.st_mode) and not found.st_nlink:
                            total += _count(found, seen, several=-1)
    return total


def _count(found: os.stat_result, seen: set[tuple[int, int]], *, several: int) -> int:
    """The bytes of a file, none if it was seen; those with more links than `several` can be met again."""
    if found.st_nlink > several and not stat.S_ISCHR(found.st_mode):
        key = (found.st_dev, found.st_ino)
        if key in seen:
            return 0
        seen.add(key)
    return found.st_blocks * _BLOCK_BYTES
