"""Files and directories of this machine as targets.

Whatever is written appears at its path whole or not at all: writers write beside it and rename when they are closed.
In a box a declared output is written beside its staging path instead, and `boxes.inside` makes it visible at its own.

A relative path means the same everywhere in a run: it is resolved against the directory the run was started in,
even when a task changes the working directory.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, ClassVar, Final

from jubako.boxes import inside
from jubako.boxes.spec import Output, OutputKind
from jubako.flow.format import Format, get_default_format
from jubako.flow.target import (
    FileAlreadyExists,
    FileSystem,
    FileSystemTarget,
    MissingParentDirectory,
    NotADirectory,
    temporary_name,
)

__all__ = ["DirectoryTarget", "LocalFileSystem", "LocalTarget", "atomic_file", "resolve_path", "set_start_directory"]

_RENAME_EXCHANGE: Final = 2  # renameat2(2)

_start_directory: str | None = None


def set_start_directory(path: str | None) -> None:
    """Relative paths of targets are resolved against `path` from now on; None: against the working directory."""
    global _start_directory  # noqa: PLW0603  (one run per process; targets are made anywhere in it)
    _start_directory = path


def resolve_path(path: str) -> str:
    """`path`, absolute and without "." or doubled slashes. ".." follows symbolic links, as the kernel does."""
    if path.startswith("/") and "//" not in path and "/." not in path and path[-1] != "/":
        return path
    path = os.path.join(_start_directory or os.getcwd(), path)
    if ".." in path.split("/"):
        head, tail = os.path.split(path.rstrip("/"))
        path = os.path.realpath(path) if tail in ("..", ".") else os.path.join(os.path.realpath(head), tail)
    return "/" + os.path.normpath(path).lstrip("/")


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
                _discard(temporary)
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


class atomic_file(io.BufferedWriter):
    """Written aside, it appears at `path` when it is closed; left by an exception or dropped, it never does."""

    def __init__(self, path: str) -> None:
        self.path = path
        temporary = self.generate_tmp_path(path)
        super().__init__(io.FileIO(temporary, "w"))
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
            _discard(self._temporary)  # a full disk, a directory in the way: nothing stays beside the target
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
            _discard(self._temporary)

    def __exit__(self, exc_type: Any, exc: Any, traceback: Any) -> None:
        if exc_type is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        if hasattr(self, "_temporary"):
            self.abort()


class LocalTarget(FileSystemTarget):
    """A file of this machine, or with a path that ends in "/" a directory.

    `path` is kept as it was given; `absolute_path` is where it is. Without a path, `is_tmp=True` makes one up and
    removes what is there when the target is dropped.
    """

    fs = LocalFileSystem()
    output_kind: ClassVar[OutputKind] = "file"

    def __init__(self, path: Any = None, format: Format | None = None, is_tmp: bool = False) -> None:
        if not path:
            if not is_tmp:
                raise ValueError("path or is_tmp must be set")
            path = temporary_name(os.path.join(tempfile.gettempdir(), "jubako"))
        self.path = path if type(path) is str else os.fspath(path) if isinstance(path, os.PathLike) else str(path)
        self.format = get_default_format() if format is None else format
        self.is_tmp = is_tmp
        if is_tmp:
            weakref.finalize(self, _remove_own, self.absolute_path, os.getpid())

    @property
    def absolute_path(self) -> str:
        return resolve_path(self.path)

    def as_output(self) -> Output:
        """What a task that makes this target declares to its box."""
        return Output(self.absolute_path, "directory" if self.path.endswith("/") else self.output_kind)

    def exists(self) -> bool:
        self.warn_of_wildcards()
        return self.fs.exists(self._seen_path())

    def makedirs(self) -> None:
        """Makes the directory the target is in, with those above it."""
        os.makedirs(os.path.dirname(self.absolute_path), exist_ok=True)

    def open(self, mode: str = "r") -> IO[Any]:
        kind = mode.replace("b", "").replace("t", "")
        if kind == "r":
            return self.format.pipe_reader(io.BufferedReader(io.FileIO(self._seen_path(), "r")))
        if kind != "w":
            raise ValueError(f"mode must be 'r' or 'w' (got: {mode})")
        path = self.absolute_path
        staged = inside.staged_path(path)
        if staged is not None:
            return self.format.pipe_writer(_StagedFile(staged, path))
        try:
            file = atomic_file(path)
        except FileNotFoundError:  # usually the directory is there, and asking first would cost more than the file
            self.makedirs()
            file = atomic_file(path)
        return self.format.pipe_writer(file)

    @contextmanager
    def temporary_path(self) -> Iterator[str]:
        path = self.absolute_path
        staged = inside.staged_path(path)
        temporary = temporary_name(path if staged is None else staged) + ("/" if self.path.endswith("/") else "")
        if staged is None:
            self.makedirs()
        try:
            yield temporary
            if staged is None:
                self.fs.rename_dont_move(temporary, path)
            else:
                _place_staged(temporary.rstrip("/"), staged)
                inside.expose(path)
        except BaseException:
            _discard(temporary)
            raise

    def move(self, new_path: str, raise_if_exists: bool = False) -> None:
        """Moves what is there to `new_path`."""
        self.fs.move(self.absolute_path, resolve_path(new_path), raise_if_exists=raise_if_exists)

    def move_dir(self, new_path: str) -> None:
        self.move(new_path)

    def copy(self, new_path: str, raise_if_exists: bool = False) -> None:
        """Copies the file to `new_path`."""
        self.fs.copy(self._seen_path(), resolve_path(new_path), raise_if_exists)

    def remove(self) -> None:
        path = self.absolute_path
        staged = inside.staged_path(path)
        if staged is not None:
            _discard(staged)
            if os.path.islink(path) and not os.path.exists(path):  # what made the staged file visible here
                os.remove(path)
                return
        self.fs.remove(path)

    def _seen_path(self) -> str:
        """Where the content is: in a box, what this task has already written of its own output can be elsewhere."""
        path = self.absolute_path
        staged = inside.staged_path(path)
        return path if staged is None or not os.path.lexists(staged) else staged

    @property
    def fn(self) -> str:
        warnings.warn("Use LocalTarget.path to reference filename", DeprecationWarning, stacklevel=2)
        return self.path


class DirectoryTarget(LocalTarget):
    """A directory that is made and replaced as a whole: readers see all of the old one or all of the new one.

    In a box `path` is a fresh, empty directory while the task runs. Without a box, write to `temporary_path()`.
    """

    output_kind = "directory"

    def exists(self) -> bool:
        self.warn_of_wildcards()
        return self.fs.isdir(self.absolute_path)

    def open(self, mode: str = "r") -> IO[Any]:
        raise IsADirectoryError(errno.EISDIR, f"{self.path} is a directory target; open files in it", self.path)

    @contextmanager
    def temporary_path(self) -> Iterator[str]:
        """An empty directory to write to; on leaving the block it replaces the target, after an exception it goes."""
        path = self.absolute_path
        if inside.staged_path(path) is not None:
            yield path  # the box has put a fresh directory there, which nobody else sees
            inside.expose(path)
            return
        self.makedirs()
        temporary = temporary_name(path)
        os.mkdir(temporary)
        try:
            yield temporary
            _replace_directory(temporary, path)
        except BaseException:
            _discard(temporary)
            raise


class _StagedFile(atomic_file):
    """A declared output written in a box: it goes to its staging path, and is then shown at its own."""

    def __init__(self, staged: str, path: str) -> None:
        self._shown = path
        super().__init__(staged)

    def move_to_final_destination(self) -> None:
        super().move_to_final_destination()
        inside.expose(self._shown)


def _place_staged(new: str, staged: str) -> None:
    """Makes what was written as `new` the content of a staging path; what was staged before is gone then."""
    if os.path.isdir(staged) and not os.path.islink(staged):
        # A declared directory: it shows at its own path already, so it must stay and take what is new.
        for entry in list(os.scandir(staged)):
            _discard(entry.path)
        for entry in list(os.scandir(new)):
            os.rename(entry.path, os.path.join(staged, entry.name))
        os.rmdir(new)
    else:
        os.replace(new, staged)


def _replace_directory(new: str, path: str) -> None:
    """Puts the directory `new` where `path` is; what was there is gone after that."""
    try:
        os.rename(new, path)  # nothing there, or an empty directory
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
    from jubako.kernel.files import renameat2  # only here: loads the C library

    renameat2(-100, new, -100, path, _RENAME_EXCHANGE)  # AT_FDCWD
    _discard(new)


def _discard(path: str) -> None:
    """Removes whatever is at `path`, if anything is."""
    path = path.rstrip("/")
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)
    except FileNotFoundError:
        pass


def _remove_own(path: str, pid: int) -> None:
    if os.getpid() == pid:  # a forked child must not remove what its parent still uses
        _discard(path)
