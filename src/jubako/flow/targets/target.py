"""What a task makes and how one sees that it is there. `LocalTarget` is the usual one; this is what all have in common.

`FileSystem` is what a `FileSystemTarget` delegates to, so that a kind of storage is written once for all its targets.
Names and behaviour are those of `luigi.target`.
"""

from __future__ import annotations

import logging
import random
from abc import ABCMeta, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from jubako.errors import HostError

__all__ = [
    "FileAlreadyExists",
    "FileSystem",
    "FileSystemException",
    "FileSystemTarget",
    "MissingParentDirectory",
    "NotADirectory",
    "StorageUnreachable",
    "Target",
    "temporary_name",
]

logger = logging.getLogger("jubako")


class FileSystemException(HostError):
    """A storage refused something."""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message, hint=hint)


class FileAlreadyExists(FileSystemException):
    """Something is there already, where it must not be overwritten."""


class MissingParentDirectory(FileSystemException):
    """The directory to put something into is not there."""


class NotADirectory(FileSystemException):
    """Something is there, and it is not a directory."""


class StorageUnreachable(FileSystemException):
    """Nobody answers for a storage: whatever else is asked of it now comes to the same, after as long a wait.

    `storage` is the `fs` of the targets it is about, where many were asked for.
    """

    storage: Any = None


class Target(metaclass=ABCMeta):
    """Anything that can be seen to exist. A task whose targets all exist is done."""

    @abstractmethod
    def exists(self) -> bool:
        """Tells if the target is there, whole."""


class FileSystem(metaclass=ABCMeta):
    """A storage of files by path."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Tells if there is a file or a directory at `path`."""

    @abstractmethod
    def remove(self, path: str, recursive: bool = True, skip_trash: bool = True) -> None:
        """Removes the file or (with everything in it) the directory at `path`."""

    def mkdir(self, path: str, parents: bool = True, raise_if_exists: bool = False) -> None:
        """Makes a directory, with those above it; nothing changes when there is one already."""
        raise NotImplementedError(f"mkdir() is not implemented on {type(self).__name__}")

    def isdir(self, path: str) -> bool:
        """Tells if there is a directory at `path`."""
        raise NotImplementedError(f"isdir() is not implemented on {type(self).__name__}")

    def listdir(self, path: str) -> Iterable[str]:
        """The paths of all files below the directory `path`, each beginning with it."""
        raise NotImplementedError(f"listdir() is not implemented on {type(self).__name__}")

    def move(self, path: str, dest: str) -> None:
        """Moves a file, as mv(1) would."""
        raise NotImplementedError(f"move() is not implemented on {type(self).__name__}")

    def rename_dont_move(self, path: str, dest: str) -> None:
        """Renames `path` to `dest`, never into it; FileAlreadyExists when there is something at `dest`."""
        if self.exists(dest):
            raise FileAlreadyExists(f"Destination exists: {dest}")
        self.move(path, dest)

    def rename(self, *args: Any, **kwargs: Any) -> None:
        """Another name of `move`."""
        self.move(*args, **kwargs)

    def copy(self, path: str, dest: str) -> None:
        """Copies a file with its content."""
        raise NotImplementedError(f"copy() is not implemented on {type(self).__name__}")


class FileSystemTarget(Target):
    """A file or a directory in some storage."""

    fs: FileSystem  # of the class, or a property

    def __init__(self, path: Any) -> None:
        self.path = str(path)

    def __str__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    @abstractmethod
    def open(self, mode: str = "r") -> IO[Any]:
        """A file to read from ("r"), or to write to ("w"); what is written appears as a whole when it is closed."""

    def exists(self) -> bool:
        self.warn_of_wildcards()
        return self.fs.exists(self.path)

    def remove(self) -> None:
        """Removes what is there."""
        self.fs.remove(self.path)

    @contextmanager
    def temporary_path(self) -> Iterator[str]:
        """A path to write to instead; on leaving the block it becomes the target's, after an exception it goes."""
        temporary = temporary_name(self.path)
        parent = self.path.rstrip("/\\").rpartition("/")[0]
        if parent:
            self.fs.mkdir(parent, parents=True, raise_if_exists=False)
        try:
            yield temporary
        except BaseException:
            if self.fs.exists(temporary):
                self.fs.remove(temporary)
            raise
        self.fs.rename_dont_move(temporary, self.path)

    def _touchz(self) -> None:
        with self.open("w"):
            pass

    def warn_of_wildcards(self) -> None:
        """Logs a warning when the path looks like a pattern: existing is not being complete then."""
        path = self.path
        if "*" in path or "?" in path or "[" in path or "{" in path:
            logger.warning(
                "Using wildcards in path %s might lead to processing of an incomplete dataset; "
                "override exists() to suppress the warning.",
                path,
            )


def temporary_name(path: str) -> str:
    """Where to write what will become `path`: beside it, under a name nobody else takes."""
    bare = path.rstrip("/\\")
    return f"{bare}-luigi-tmp-{random.randrange(10**10):010d}{path[len(bare) :][-1:]}"
