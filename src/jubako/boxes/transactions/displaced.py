"""Removing what published moves have displaced: the old versions, one for each file that was replaced or deleted.

A disk that is told of every freed block (mounted with `discard`) may take its time for each file, and several at once:
ext4 without a journal takes 98 microseconds a file in one thread, 26 in eight. Elsewhere threads are in each other's
way.
"""

from __future__ import annotations

import os

from jubako.kernel.files import statx
from jubako.kernel.mount_table import read_mount_table
from jubako.kernel.syscalls import AT_FDCWD
from jubako.layers.entry import LETTERS, type_of
from jubako.layers.remove import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from jubako.boxes.transactions.planned import MoveGroup, PlannedMoves

    Slice: TypeAlias = tuple[MoveGroup, int, int]

__all__ = ["remove_displaced"]

_THREADS = 8
_SLICE = 256
_OPEN = getattr(os, "O_PATH", 0) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC  # O_PATH is Linux only


def remove_displaced(moves: PlannedMoves, *, is_seen: bool = True) -> list[str]:
    """Removes the old versions that published moves have displaced; what could not be removed, in words.

    Unless it `is_seen` that the asides are what was displaced, those that are something else by now are left alone.
    Repeatable, also after a kill.
    """
    slices = _slices(moves)
    if len(moves) <= _SLICE or not _is_discarding(moves):
        return [problem for each in slices for problem in _remove(*each, is_seen=is_seen)]
    from threading import Lock, Thread  # 2 ms to import, for large commits on some disks

    problems: list[str] = []
    lock = Lock()

    def run() -> None:
        while True:
            with lock:
                each = next(slices, None)
            if each is None:
                return
            problems.extend(_remove(*each, is_seen=is_seen))

    threads = [Thread(target=run) for _ in range(_THREADS)]  # nothing forks before they have ended
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return problems


def _slices(moves: PlannedMoves) -> Iterator[Slice]:
    for group in moves.groups():
        if group.expected is not None:
            for start in range(0, len(group), _SLICE):
                yield group, start, min(start + _SLICE, len(group))


def _remove(group: MoveGroup, start: int, stop: int, *, is_seen: bool) -> list[str]:
    if is_seen and stop - start == 1:
        return _remove_one(f"{group.staging}/{group.asides[start]}")
    try:
        fd = os.open(group.staging or "/", _OPEN)
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"{group.staging}: {error.strerror}"]
    problems = []
    try:
        for number in range(start, stop):
            aside = group.asides[number]
            try:
                if is_seen or _is_displaced(group, number, fd):
                    remove_tree(aside, dir_fd=fd)
            except OSError as error:
                problems.append(f"{group.staging}/{aside}: {error.strerror}")
    finally:
        os.close(fd)
    return problems


def _remove_one(path: str) -> list[str]:
    try:
        remove_tree(path)
    except OSError as error:
        return [f"{path}: {error.strerror}"]
    return []


def _is_displaced(group: MoveGroup, number: int, fd: int) -> bool:
    """True if the aside is the inode that was displaced; a directory may lack something of what it had."""
    expected = group.expected
    assert expected is not None
    try:
        found = os.stat(group.asides[number], dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    is_type = LETTERS[type_of(found.st_mode)] == expected.types[number]
    return is_type and found.st_ino == expected.inodes[number]


def _is_discarding(moves: PlannedMoves) -> bool:
    """True if the disk with the asides is told of freed blocks."""
    group = next(moves.groups())
    try:
        mount_id = statx(AT_FDCWD, group.staging or "/").mnt_id
    except FileNotFoundError:
        return False
    options = [mount.super_options for mount in read_mount_table() if mount.id == mount_id]
    return any("discard" in each.split(",") for each in options)
