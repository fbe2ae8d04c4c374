"""Files and directories of this machine: written aside and put in place whole, moved, copied, removed.

What targets are made of; nothing here knows of tasks or boxes.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Iterator
from typing import Any, Final

from jubako.flow.targets.target import (
    FileAlreadyExists,
    FileSystem,
    MissingParentDirectory,
    NotADirectory,
    temporary_name,
)

__all__ = ["LocalFileSystem", "atomic_file", "discard", "replace_directory"]

_AT_FDCWD: Final = -100  # openat(2)
_RENAME_EXCHANGE: Final = 2  # renameat2(2)


class LocalFileSystem(FileSystem):
    """The file system of this machine."""

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def isdir(self, path: str) -> bool:
        return os.path.isdir(path)

    def listdir(self, path: str) -> Iterator[str]:
        for directory, _, names in os.walk(path):
            for name in names:
                yield os.path.join(directory, name)

    def mkdir(self, path: str, parents: bool = True, raise_if_exists: bool = False) -> None:
        if not parents and not os.path.isdir(os.path.dirname(os.path.abspath(path))):
            raise MissingParentDirectory(f"The directory to make {path} in is not there")
        try:
            if parents:
                os.makedirs(path)
            else:
                os.mkdir(path)
        except FileExistsError:
            if raise_if_exists:
                raise FileAlreadyExists(f"Destination exists: {path}") from None
            if not os.path.isdir(path):
                raise NotADirectory(f"{path} is not a directory") from None

    def remove(self, path: str, recursive: bool = True, skip_trash: bool = True) -> None:
        if recursive and os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)

    def move(self, path: str, dest: str, raise_if_exists: bool = False) -> None:
        """Renames `path` to `dest`, making the directory for it. To another file system: copied aside, then renamed."""
        self._prepare(dest, raise_if_exists)
        try:
            os.replace(path, dest)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            temporary = temporary_name(dest)
            try:
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.copytree(path, temporary, symlinks=True)
                else:
                    shutil.copy2(path, temporary, follow_symlinks=False)
                os.replace(temporary, dest)
            except BaseException:
                discard(temporary)
                raise
            self.remove(path)

    def rename_dont_move(self, path: str, dest: str) -> None:
        self.move(path, dest, raise_if_exists=True)

    def copy(self, path: str, dest: str, raise_if_exists: bool = False) -> None:
        self._prepare(dest, raise_if_exists)
        shutil.copy(path, dest)

    def _prepare(self, dest: str, raise_if_exists: bool) -> None:
        if raise_if_exists and os.path.exists(dest):
            raise FileAlreadyExists(f"Destination exists: {dest}")
        parent = os.path.dirname(dest)
        if parent:
            self.mkdir(parent)


class _NamedFile(io.FileIO):
    """Says in errors of writing too which file they are about: `path`, where it will be, not where it is."""

    def __init__(self, temporary: str, path: str) -> None:
        super().__init__(temporary, "w")
        self._path = path

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = self._path
            raise


class atomic_file(io.BufferedWriter):
    """Written aside, it appears at `path` when it is closed; left by an exception or dropped, it never does."""

    def __init__(self, path: str) -> None:
        self.path = path
        temporary = self.generate_tmp_path(path)
        super().__init__(_NamedFile(temporary, path))
        self._temporary = temporary  # last: it says that there is something to close and to remove

    @property
    def tmp_path(self) -> str:
        return self._temporary

    def generate_tmp_path(self, path: str) -> str:
        return temporary_name(path)

    def move_to_final_destination(self) -> None:
        os.replace(self._temporary, self.path)

    def close(self) -> None:
        if self.closed:
            return
        try:
            super().close()
            self.move_to_final_destination()
        except BaseException:
            discard(self._temporary)  # a full disk, a directory in the way: nothing stays beside the target
            raise

    def abort(self) -> None:
        """Closes and removes what was written."""
        if self.closed:
            return
        try:
            super().close()
        except OSError:
            pass  # what could not be written is not wanted any more
        finally:
            discard(self._temporary)

    def __exit__(self, exc_type: Any, exc: Any, traceback: Any) -> None:
        if exc_type is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        if hasattr(self, "_temporary"):
            self.abort()


def replace_directory(new: str, path: str) -> None:
    """Puts the directory `new` where `path` is; what was there is gone after that."""
    try:
        os.rename(new, path)  # nothing there, or an empty directory
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
    from jubako.kernel.files import renameat2  # only here: loads the C library

    renameat2(_AT_FDCWD, new, _AT_FDCWD, path, _RENAME_EXCHANGE)
    discard(new)


def discard(path: str) -> None:
    """Removes whatever is at `path`, if anything is."""
    path = path.rstrip("/")
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)
    except FileNotFoundError:
        pass
