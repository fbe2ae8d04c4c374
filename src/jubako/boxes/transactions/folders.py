"""The directories that targets lie in, held open while things are renamed into them.

A path is resolved once, when a move is planned; the inode of the innermost existing directory goes into the journal.
When the move is carried out the directory is opened, must be that inode, and is used by descriptor only: a symbolic
link put in its path meanwhile redirects nothing. Missing directories are made below it one by one, never through a
link. Afterwards the path must still lead to the directory that was used, or the output is not where it should be.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from jubako.errors import ConflictError
from jubako.kernel.files import RESOLVE_NO_SYMLINKS, openat2
from jubako.kernel.syscalls import AT_FDCWD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from jubako.boxes.transactions.move import PlannedMove

__all__ = ["Folders", "check_anchor", "find_anchor", "plan_folder"]

_OPEN = getattr(os, "O_PATH", 0) | os.O_DIRECTORY | os.O_CLOEXEC  # O_PATH is Linux only; importing works anywhere
_HELD = 64


class Folders:
    """Opened directories by path. Everything raised as ConflictError means: this is not the directory planned for.

    More than a few are not held at once: one that is opened again must be the one it was.
    """

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}
        self._inodes: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.forget()

    def open(self, move: PlannedMove) -> int:
        """A descriptor of the directory that the target of `move` lies in; it is made where it is missing.

        It stays open until the next call.
        """
        self._make_room()
        fd = self._fds.get(move.folder)
        if fd is not None:
            return fd
        fd = self._open_anchor(move)
        for path in move.made:
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.basename(path), dir_fd=fd)
            try:
                fd = self._open_below(path, fd)
            except (NotADirectoryError, FileNotFoundError):
                raise _gone(path, move.target) from None
        return fd

    def find(self, move: PlannedMove) -> int | None:
        """As `open`, but nothing is made: None if the directory is missing below the one that was there."""
        self._make_room()
        fd = self._fds.get(move.folder)
        if fd is not None:
            return fd
        fd = self._open_anchor(move)
        for path in move.made:
            try:
                fd = self._open_below(path, fd)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return fd

    def check(self, move: PlannedMove) -> None:
        """Raises ConflictError unless the path of the directory still leads to the one that is held open."""
        try:
            inode = os.stat(move.folder).st_ino
        except OSError:
            inode = -1
        if inode != self._inodes[move.folder]:
            raise ConflictError(f"the folder {move.folder} was moved or replaced while {move.target} was published")

    def unmake(self, move: PlannedMove) -> None:
        """Removes the directories made for `move`, as far as they are empty. Call `forget` after the last one."""
        if not move.made:
            return
        self._make_room()
        anchor = self._open_anchor(move)
        steps = [os.path.basename(path) for path in move.made]
        for depth in range(len(steps), 0, -1):
            try:
                os.rmdir("/".join(steps[:depth]), dir_fd=anchor)
            except FileNotFoundError:
                continue
            except OSError:  # in use by others by now, or not a directory
                return

    def forget(self) -> None:
        """Closes everything, and forgets what it was: for between two transactions."""
        self._close()
        self._inodes.clear()

    def _make_room(self) -> None:
        if len(self._fds) > _HELD:
            self._close()

    def _close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def _open_anchor(self, move: PlannedMove) -> int:
        anchor = move.anchor
        fd = self._fds.get(anchor)
        if fd is None:
            try:
                fd = os.open(anchor, _OPEN)
            except (FileNotFoundError, NotADirectoryError):
                raise _gone(anchor, move.target) from None
            self._keep(anchor, fd)
        if self._inodes[anchor] != move.folder_inode:
            raise ConflictError(f"the folder {anchor} is another one than when publishing {move.target} was begun")
        return fd

    def _open_below(self, path: str, above: int) -> int:
        fd = self._fds.get(path)
        if fd is None:
            fd = os.open(os.path.basename(path), _OPEN | os.O_NOFOLLOW, dir_fd=above)
            self._keep(path, fd)
        return fd

    def _keep(self, path: str, fd: int) -> None:
        inode = os.fstat(fd).st_ino
        if self._inodes.setdefault(path, inode) != inode:
            os.close(fd)
            raise ConflictError(f"the folder {path} was moved or replaced while something was published in it")
        self._fds[path] = fd


def find_anchor(target: str) -> tuple[int, int]:
    """The device and inode of the innermost existing directory above `target`, reached through no symbolic link.

    Raises ConflictError where there is a link, or no directory, in the way.
    """
    folder = os.path.dirname(target)
    while True:
        try:
            fd = openat2(AT_FDCWD, folder, _OPEN, resolve=RESOLVE_NO_SYMLINKS)
        except FileNotFoundError:
            folder = os.path.dirname(folder)
            continue
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ConflictError(f"there is a symbolic link on the way to {target} now") from None
            if error.errno == errno.ENOTDIR:
                raise _gone(folder, target) from None
            raise
        try:
            found = os.fstat(fd)
        finally:
            os.close(fd)
        return found.st_dev, found.st_ino


def check_anchor(anchor: tuple[int, int], target: str, folder_inode: int) -> None:
    """Raises ConflictError unless the directory of that inode, which `target` was planned in, is `anchor`."""
    if find_anchor(target) != anchor or anchor[1] != folder_inode:
        raise ConflictError(f"the folder of {target} was moved or replaced before it could be published there")


def plan_folder(target: str) -> tuple[int, tuple[str, ...]]:
    """The inode of the innermost existing directory above `target`, and the directories to be made below it.

    Raises ConflictError where something in the way is no directory (it was one, or nothing, when things were staged).
    """
    folder = os.path.dirname(target)
    missing: list[str] = []
    while True:
        try:
            found = os.stat(folder)
        except FileNotFoundError:
            missing.append(folder)
            folder = os.path.dirname(folder)
            continue
        except NotADirectoryError:
            raise _gone(folder, target) from None
        if not stat.S_ISDIR(found.st_mode):
            raise _gone(folder, target)
        return found.st_ino, tuple(reversed(missing))


def _gone(folder: str, target: str) -> ConflictError:
    return ConflictError(f"{folder} is not a directory any more, so {target} cannot be published")
