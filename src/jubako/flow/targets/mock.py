"""Targets that live in memory, for tests of pipelines. Tasks that make such run in this process, not in a box.

target = MockTarget("summary/2021-09-01")       # all with this name are the same file
with target.open("w") as file: ...
MockFileSystem().get_data("summary/2021-09-01")
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import IO, Any, ClassVar

from jubako.flow.targets.format import Format, get_default_format
from jubako.flow.targets.target import FileAlreadyExists, FileSystem, FileSystemTarget

__all__ = ["MockFileSystem", "MockTarget"]


class MockFileSystem(FileSystem):
    """One storage for the whole process: path -> content. A directory is there while something is in it."""

    _data: ClassVar[dict[str, bytes]] = {}

    def get_all_data(self) -> dict[str, bytes]:
        """The content of every file by path; the storage itself, not a copy."""
        return self._data

    def get_data(self, fn: str) -> bytes:
        """The content of one file."""
        return self._data[fn]

    def clear(self) -> None:
        """Removes everything."""
        self._data.clear()

    def exists(self, path: str) -> bool:
        return path in self._data or self.isdir(path)

    def isdir(self, path: str) -> bool:
        return any(self._below(path))

    def listdir(self, path: str) -> list[str]:
        return list(self._below(path))

    def mkdir(self, path: str, parents: bool = True, raise_if_exists: bool = False) -> None:
        """Does nothing: directories need not be made."""

    def remove(self, path: str, recursive: bool = True, skip_trash: bool = True) -> None:
        for name in self._below(path) if recursive else ():
            del self._data[name]
        if not recursive or path in self._data:
            del self._data[path]

    def move(self, path: str, dest: str, raise_if_exists: bool = False) -> None:
        self.copy(path, dest, raise_if_exists)
        self.remove(path)

    def copy(self, path: str, dest: str, raise_if_exists: bool = False) -> None:
        if raise_if_exists and self.exists(dest):
            raise FileAlreadyExists(f"Destination exists: {dest}")
        copies = {dest + name[len(path) :]: self._data[name] for name in self._below(path)}
        if path in self._data:
            copies[dest] = self._data[path]
        elif not copies:
            raise KeyError(path)
        self._data.update(copies)

    def _below(self, path: str) -> Iterable[str]:
        prefix = path.rstrip("/") + "/"
        return [name for name in self._data if name.startswith(prefix)]


class MockTarget(FileSystemTarget):
    """A file in memory. With `mirror_on_stderr` what is written is shown as well."""

    fs = MockFileSystem()
    in_memory: ClassVar[bool] = True  # a task that makes it must run in this process

    def __init__(
        self, fn: Any, is_tmp: bool | None = None, mirror_on_stderr: bool = False, format: Format | None = None
    ) -> None:
        super().__init__(fn)
        self.mirror_on_stderr = mirror_on_stderr
        self.format = get_default_format() if format is None else format

    def exists(self) -> bool:
        return self.fs.exists(self.path)

    def move(self, path: str, raise_if_exists: bool = False) -> None:
        """Gives the file another path; this target then is where the file was."""
        self.fs.move(self.path, path, raise_if_exists)

    def rename(self, *args: Any, **kwargs: Any) -> None:
        """Another name of `move`."""
        self.move(*args, **kwargs)

    def open(self, mode: str = "r") -> IO[Any]:
        if mode.replace("b", "").replace("t", "") == "w":
            return self.format.pipe_writer(_MemoryFile(self.fs, self.path, self.mirror_on_stderr))
        return self.format.pipe_reader(io.BytesIO(self.fs.get_data(self.path)))


class _MemoryFile(io.BytesIO):
    """What is written appears in the storage when it is closed; left by an exception or dropped, it never does."""

    def __init__(self, fs: MockFileSystem, path: str, mirror: bool) -> None:
        super().__init__()
        self._fs = fs
        self._path = path
        self._mirror = mirror

    def write(self, data: Any, /) -> int:
        if self._mirror:
            sys.stderr.write(f"{self._path}: {bytes(data).decode(errors='replace')}\n")
        return super().write(data)

    def close(self) -> None:
        if not self.closed:
            self._fs.get_all_data()[self._path] = self.getvalue()
        super().close()

    def abort(self) -> None:
        """Closes and forgets what was written."""
        super().close()

    def __exit__(self, exc_type: Any, exc: Any, traceback: Any) -> None:
        if exc_type is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        self.abort()
