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
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, ClassVar

from jubako.boxes import inside
from jubako.boxes.spec import Output, OutputKind
from jubako.flow.targets.format import Format, get_default_format
from jubako.flow.targets.local_files import LocalFileSystem, atomic_file, discard, replace_directory
from jubako.flow.targets.target import FileSystemTarget, temporary_name

__all__ = ["DirectoryTarget", "LocalFileSystem", "LocalTarget", "atomic_file", "resolve_path", "set_start_directory"]

_start_directory: str | None = None


def set_start_directory(path: str | None) -> None:
    """Relative paths of targets are resolved against `path` from now on; None: against the working directory."""
    global _start_directory  # noqa: PLW0603  (one run per process; targets are made anywhere in it)
    _start_directory = path


def resolve_path(path: str) -> str:
    """`path`, absolute and without "." or doubled slashes. ".." follows symbolic links, as the kernel does."""
    is_normal = "//" not in path and "/." not in path and path[-1:] not in ("", "/")  # all but perhaps the beginning
    if is_normal and path[0] == "/":
        return path
    start = _start_directory or os.getcwd()
    if is_normal and path[0] != "." and start != "/":
        return f"{start}/{path}"
    path = os.path.join(start, path)
    if ".." in path.split("/"):
        head, tail = os.path.split(path.rstrip("/"))
        path = os.path.realpath(path) if tail in ("..", ".") else os.path.join(os.path.realpath(head), tail)
    return "/" + os.path.normpath(path).lstrip("/")


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
            discard(temporary)
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
            discard(staged)
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
            replace_directory(temporary, path)
        except BaseException:
            discard(temporary)
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
            discard(entry.path)
        for entry in list(os.scandir(new)):
            os.rename(entry.path, os.path.join(staged, entry.name))
        os.rmdir(new)
    else:
        os.replace(new, staged)


def _remove_own(path: str, pid: int) -> None:
    if os.getpid() == pid:  # a forked child must not remove what its parent still uses
        discard(path)
