"""What a stack of lower layers shows at a path, found as overlayfs finds it, with nothing mounted.

A name is looked up from the topmost layer down. A whiteout ends the search; so does anything but a directory, and it is
what is there. Directories of one name are merged until one is opaque. A redirect says that the layers below know the
directory (or the file whose content is there, with metacopy) by another name. See the kernel's overlayfs.rst.
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.layers.walk import OPEN_DIRECTORY
from jubako.layers.whiteout import Marks, is_whiteout, read_file_marks, read_folder_marks
from jubako.records import record

__all__ = ["Entry", "Stack"]


@record
class Entry:
    """What is at a path. `places` are a layer's number and a path in it: all merged directories, the topmost first; of
    a file the one that has its content, last."""

    state: os.stat_result
    places: tuple[tuple[int, str], ...]

    @property
    def is_directory(self) -> bool:
        """True for a directory, merged or not."""
        return stat.S_ISDIR(self.state.st_mode)


class Stack:
    """Lower layers, the topmost first, as descriptors of directories, which stay their owner's."""

    def __init__(self, layers: tuple[int, ...]) -> None:
        self.layers = layers

    def root(self, *, below: int = -1) -> Entry | None:
        """What all layers show at the top; only those below the layer numbered `below`."""
        numbers = range(below + 1, len(self.layers))
        if not numbers:
            return None
        return Entry(os.fstat(self.layers[numbers[0]]), tuple((number, "") for number in numbers))

    def find(self, path: str, *, below: int = -1) -> Entry | None:
        """What is at `path`, absolute or relative to the top, without links, dots and double slashes."""
        entry = self.root(below=below)
        for name in path.strip("/").split("/") if path.strip("/") else ():
            if entry is None or not entry.is_directory:
                return None
            entry = self.child(entry, name)
        return entry

    def child(self, parent: Entry, name: str) -> Entry | None:
        """What the directory `parent` has under `name`; None for what is no name, as a forged redirect may say."""
        if name in ("", ".", "..") or "\0" in name:
            return None
        state = None
        places: list[tuple[int, str]] = []
        for at, (number, folder) in enumerate(parent.places):
            path = f"{folder}/{name}" if folder else name
            found = self._stat(number, path)
            if found is None:
                continue
            if is_whiteout(found, path, self.layers[number]):
                break
            is_directory = stat.S_ISDIR(found.st_mode)
            if state is not None and is_directory != stat.S_ISDIR(state.st_mode):
                break  # a file that a directory above it hides, or a directory below a file without content
            state = state or found
            places.append((number, path))
            marks = self._read_marks(number, path, found)
            if marks.redirect:
                target = self._follow(marks.redirect, parent.places[at + 1 :], number)
                if target is not None and target.is_directory == is_directory:
                    places += target.places
                break
            if marks.opaque or not (is_directory or marks.metacopy):
                break
        return None if state is None else Entry(state, tuple(places))

    def has_entries(self, entry: Entry) -> bool:
        """True if a directory shows anything."""
        for number, path in entry.places:
            fd = os.open(path or ".", OPEN_DIRECTORY, dir_fd=self.layers[number])
            try:
                names = os.listdir(fd)
            finally:
                os.close(fd)
            if any(self.child(entry, name) is not None for name in names):
                return True
        return False

    def _follow(self, redirect: str, rest: tuple[tuple[int, str], ...], number: int) -> Entry | None:
        if redirect.startswith("/"):
            return self.find(redirect, below=number)
        if not rest or "/" in redirect:
            return None
        first = self._stat(*rest[0])
        return None if first is None else self.child(Entry(first, rest), redirect)

    def _stat(self, number: int, path: str) -> os.stat_result | None:
        try:
            return os.stat(path or ".", dir_fd=self.layers[number], follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                return None
            raise

    def _read_marks(self, number: int, path: str, found: os.stat_result) -> Marks:
        layer = self.layers[number]
        if stat.S_ISREG(found.st_mode):
            return read_file_marks(path, layer)
        if not stat.S_ISDIR(found.st_mode):
            return Marks()
        fd = os.open(path, OPEN_DIRECTORY, dir_fd=layer)
        try:
            return read_folder_marks(fd)
        finally:
            os.close(fd)
