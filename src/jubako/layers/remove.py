"""Removing file trees that somebody else filled: any depth, any mode, no symbolic link followed.

A task may leave directories thousands deep or with mode 0, and overlayfs leaves `work/work` with mode 0. So the walk
holds descriptors, opens up what its owner may open up, and below a certain depth moves directories to the top instead
of descending, which bounds descriptors and recursion.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat

__all__ = ["remove_tree"]

_DEPTH = 40  # descriptors held at once
_RACES_BORNE = 3 * 4096  # names in a row that were gone when it was their turn
_AT_ONCE = 4096  # entries listed at once: a directory of millions must not be held in memory
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str, *, dir_fd: int | None = None) -> None:
    """Removes what `path` names, a file, a link or a directory with all below; nothing there is fine.

    May be killed at any moment and called again, also while another process removes the same tree. Raises OSError at
    the first entry that cannot be removed.
    """
    try:
        os.unlink(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        try:
            if not stat.S_ISDIR(os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_mode):
                raise
            _remove_directory(path, dir_fd)
        except FileNotFoundError:  # somebody else removes it too
            return


def _remove_directory(path: str, dir_fd: int | None) -> None:
    top = _open_up(path, dir_fd)
    try:
        serial = itertools.count()
        while _empty(top, top, 1, serial):
            pass
    finally:
        os.close(top)
    os.rmdir(path, dir_fd=dir_fd)


def _empty(fd: int, top: int, depth: int, serial: itertools.count[int]) -> bool:
    """Removes all entries of a directory; True if there were any, so that those moved to the top meanwhile are seen."""
    found_any = False
    races = 0
    while True:
        with os.scandir(fd) as listing:
            entries = list(itertools.islice(listing, _AT_ONCE))
        if not entries:
            return found_any
        found_any = True
        for entry in entries:
            try:
                _remove_entry(entry, fd, top, depth, serial)
                races = 0
            except FileNotFoundError:  # somebody else removes this tree too; or it lists what is not there
                races += 1
                if races > _RACES_BORNE:
                    raise


def _remove_entry(entry: os.DirEntry[str], fd: int, top: int, depth: int, serial: itertools.count[int]) -> None:
    if not entry.is_dir(follow_symlinks=False):
        os.unlink(entry.name, dir_fd=fd)
        return
    if _remove_empty(entry.name, fd):
        return
    child = _open_up(entry.name, fd)
    try:
        if depth >= _DEPTH:
            _move_up(entry.name, fd, top, serial)
            return
        _empty(child, top, depth + 1, serial)
    finally:
        os.close(child)
    os.rmdir(entry.name, dir_fd=fd)


def _remove_empty(name: str, dir_fd: int) -> bool:
    """Removes a directory if it is empty, as most are; False if not, or if something else is in the way."""
    try:
        os.rmdir(name, dir_fd=dir_fd)
    except OSError:
        return False
    return True


def _move_up(name: str, fd: int, top: int, serial: itertools.count[int]) -> None:
    while True:
        try:
            os.rename(name, f".deep-{next(serial)}", src_dir_fd=fd, dst_dir_fd=top)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):  # that name is taken
                raise


def _open_up(path: str, dir_fd: int | None) -> int:
    """A descriptor of a directory, which its owner may list and change afterwards."""
    try:
        fd = os.open(path, _OPEN, dir_fd=dir_fd)
    except PermissionError:
        os.chmod(path, 0o700, dir_fd=dir_fd)
        return os.open(path, _OPEN, dir_fd=dir_fd)
    mode = os.fstat(fd).st_mode
    if mode & 0o700 != 0o700:
        os.fchmod(fd, 0o700)
    return fd
