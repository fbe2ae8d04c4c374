"""Removing a directory tree that a box made, whatever is in it: modes that shut us out, any depth, any name.

A box's files are hostile in the harmless sense: a directory nested deeper than a path can say or Python can recurse,
a directory without a single permission bit (overlayfs itself leaves work/work so). Nothing is followed and nothing is
left: the walk holds one descriptor, goes down by name and up by "..".
"""

from __future__ import annotations

import os

__all__ = ["remove_tree"]

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str) -> None:
    """Removes the directory `path` and all below it. Nothing happens where it is gone; repeatable after a kill.

    Nobody else may change the tree meanwhile. Raises OSError where an entry cannot be removed.
    """
    try:
        fd = _enter(path, None)
    except FileNotFoundError:
        return
    try:
        levels = [_remove_entries(fd)]  # names of the directories still to be removed, for each level we are in
        entered: list[str] = []
        while levels:
            if levels[-1]:
                name = levels[-1].pop()
                below = _enter(name, fd)
                os.close(fd)
                fd = below
                entered.append(name)
                levels.append(_remove_entries(fd))
                continue
            levels.pop()
            if entered:
                above = os.open("..", _OPEN_DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = above
                os.rmdir(entered.pop(), dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(path)


def _enter(name: str, dir_fd: int | None) -> int:
    try:
        return os.open(name, _OPEN_DIRECTORY, dir_fd=dir_fd)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=dir_fd)  # it was a directory when it was listed, and nobody else changes the tree
        return os.open(name, _OPEN_DIRECTORY, dir_fd=dir_fd)


def _remove_entries(fd: int) -> list[str]:
    """Removes everything but directories from the directory `fd`; the names of those."""
    directories = []
    with os.scandir(fd) as scan:
        entries = list(scan)  # removing while listing may skip some
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            directories.append(entry.name)
            continue
        try:
            os.unlink(entry.name, dir_fd=fd)
        except PermissionError:
            os.fchmod(fd, 0o700)
            os.unlink(entry.name, dir_fd=fd)
    if directories:
        os.fchmod(fd, 0o700)  # they will be removed from it
    return directories
