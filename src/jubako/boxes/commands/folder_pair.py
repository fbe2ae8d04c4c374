"""A directory of this machine and the box's version of it, both open: what is in them is looked at by name alone.

Whoever owns a directory on the way may put a link in its place at any moment; by descriptor, all that is compared and
planned is about one directory, and its inode is what the renames are bound to (`boxes.transactions.folders`).
"""

from __future__ import annotations

import os

from jubako.boxes.transactions.folders import check_anchor, find_anchor, plan_folder
from jubako.errors import ConflictError
from jubako.kernel.files import RESOLVE_NO_SYMLINKS, openat2
from jubako.kernel.syscalls import AT_FDCWD
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["FolderPair"]

_OPEN = getattr(os, "O_PATH", 0) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC  # O_PATH is Linux only


@record(frozen=False)
class FolderPair:
    """The machine's `folder` and the box's `source`, for the time of a `with` block.

    `target_fd` is None if the machine has no such directory: it is to be `made`. `anchor` is the device and inode of
    the innermost one that exists. Raises ConflictError where a link, or no directory, is in the way.
    """

    folder: str
    source: str
    anchor: tuple[int, int] = (0, 0)
    made: tuple[str, ...] = ()
    target_fd: int | None = None
    source_fd: int = -1

    def __enter__(self) -> Self:
        inside = f"{self.folder.rstrip('/')}/x"
        self.anchor = find_anchor(inside)
        inode, self.made = plan_folder(inside)
        check_anchor(self.anchor, inside, inode)
        self.source_fd = os.open(self.source, _OPEN)
        try:
            if not self.made:
                self.target_fd = self._open_target()
        except BaseException:
            os.close(self.source_fd)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self.source_fd)
        if self.target_fd is not None:
            os.close(self.target_fd)

    def find_target(self, name: str) -> os.stat_result | None:
        """What the machine has under that name."""
        if self.target_fd is None:
            return None
        try:
            return os.stat(name, dir_fd=self.target_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def find_source(self, name: str) -> os.stat_result | None:
        """What the box has under that name."""
        try:
            return os.stat(name, dir_fd=self.source_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _open_target(self) -> int:
        moved = f"the folder {self.folder} was moved or replaced while it was looked at"
        try:
            fd = openat2(AT_FDCWD, self.folder, _OPEN, resolve=RESOLVE_NO_SYMLINKS)
        except OSError as error:
            raise ConflictError(moved) from error
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) != self.anchor:
            os.close(fd)
            raise ConflictError(moved)
        return fd
