"""Walking a tree that somebody else filled: by descriptors below the top, no link followed, depth costs nothing.

Directories are opened by their path relative to the top, so neither recursion nor descriptors bound the depth; what
lies deeper than a path can say (PATH_MAX) is named and not entered. Directories shut to their owner (a task may have
said chmod 0) are opened up for the length of the walk and get their mode back. Nobody may move directories meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Folder", "open_top", "walk"]

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@record
class Folder:
    """One directory on the way. `fd` is open until the next one is asked for; None if it lies too deep to be entered.

    `path` is relative to the top ("" is the top itself). `entries` are sorted by name; states are not followed links.
    `state` has the mode the directory had before it was opened up.
    """

    path: str
    state: os.stat_result
    fd: int | None
    entries: tuple[tuple[str, os.stat_result], ...]

    def below(self, name: str) -> str:
        """The path of the entry `name`, relative to the top."""
        return f"{self.path}/{name}" if self.path else name


def walk(top: int) -> Iterator[Folder]:
    """The directory behind the descriptor `top` and all directories below it, each before those it holds.

    Raises OSError where a directory cannot be read. `top` stays open.
    """
    opened_up: list[tuple[str, int]] = []
    waiting: list[tuple[str, os.stat_result]] = [("", os.fstat(top))]
    try:
        while waiting:
            path, state = waiting.pop()
            try:
                fd = _open(top, path, state, opened_up)
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                yield Folder(path, state, None, ())
                continue
            try:
                folder = Folder(path, state, fd, _read_entries(fd))
                yield folder
            finally:
                os.close(fd)
            inner = [(name, found) for name, found in folder.entries if stat.S_ISDIR(found.st_mode)]
            waiting.extend((folder.below(name), found) for name, found in reversed(inner))
    finally:
        for path, mode in reversed(opened_up):
            os.chmod(path, mode, dir_fd=top)


class open_top:
    """A descriptor of the directory `where`, for the time of a `with` block: a path, opened for as long, or a
    descriptor, which stays its owner's."""

    def __init__(self, where: int | str) -> None:
        self._where = where

    def __enter__(self) -> int:
        self._fd = self._where if isinstance(self._where, int) else os.open(self._where, OPEN_DIRECTORY)
        return self._fd

    def __exit__(self, *_error: object) -> None:
        if not isinstance(self._where, int):
            os.close(self._fd)


def _open(top: int, path: str, state: os.stat_result, opened_up: list[tuple[str, int]]) -> int:
    path = path or "."
    if state.st_mode & 0o500 != 0o500 and state.st_uid == os.geteuid() != 0:
        mode = stat.S_IMODE(state.st_mode)
        os.chmod(path, mode | 0o700, dir_fd=top)
        opened_up.append((path, mode))
    return os.open(path, OPEN_DIRECTORY, dir_fd=top)


def _read_entries(fd: int) -> tuple[tuple[str, os.stat_result], ...]:
    return tuple((name, os.stat(name, dir_fd=fd, follow_symlinks=False)) for name in sorted(os.listdir(fd)))
