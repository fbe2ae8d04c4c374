"""What an upper directory says, in any of overlayfs's ways of saying it: whiteouts, opaque directories, redirects,
metacopy.

`layers.diff` reads the uppers of boxes, which hold less and have one lower directory. Here an upper may be anybody's.
With its lower directories every entry is compared with what they show; without them, overlayfs's own marks have to do:

    whiteout                    deleted
    redirect                    renamed, from there
    metacopy                    metadata: the content is the lower file's
    origin, a file              modified: it was copied up
    origin, a directory         no change by itself
    none of these               added

so that a file that was deleted and made anew counts as added then, and one that was copied up and left alone as
modified.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack

from jubako.layers.attributes import read_attributes
from jubako.layers.diff import compare_entries, has_same_attributes, has_same_content, owner_and_mode
from jubako.layers.entry import type_of
from jubako.layers.stack import Entry, Stack
from jubako.layers.walk import OPEN_DIRECTORY, Folder, open_top, walk
from jubako.layers.whiteout import Marks, is_whiteout, read_file_marks, read_folder_marks
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal, TypeAlias

    from jubako.layers.change import EntryType
    from jubako.layers.diff import Place

__all__ = ["UpperChange", "UpperKind", "read_upper"]

UpperKind: TypeAlias = "Literal['added', 'modified', 'deleted', 'metadata', 'replaced', 'renamed']"


@record
class UpperChange:
    """One change that an upper directory holds. Paths are relative to it; "." is the directory itself."""

    path: str
    kind: UpperKind
    type: EntryType | None  # of the new entry; of the old one if that was deleted, None if that isn't known
    size_bytes: int = 0  # of the new content; 0 for anything but a regular file
    moved_from: str = ""  # of what was renamed: what the lower directories call it
    whiteout: Literal["", "device", "attribute"] = ""  # how the upper says that it is deleted
    opaque: bool = False  # it hides what lower directories have of that name
    metacopy: bool = False  # its content is in a lower directory


def read_upper(upper: str, lowers: Sequence[str] = ()) -> list[UpperChange]:
    """The changes in the directory `upper`, sorted by path, against the directories `lowers`, the topmost first.

    Without lowers they are told by the marks alone, see above. Reading is safe beside a mounted overlay, and sees what
    is there at the time. Marks in trusted.* are for root to read. Raises OSError on what cannot be read.
    """
    with ExitStack() as held:
        layers = []
        for lower in lowers:
            layers.append(os.open(lower, OPEN_DIRECTORY & ~os.O_NOFOLLOW))
            held.callback(os.close, layers[-1])
        reader = _Reader(Stack(tuple(layers)), is_compared=bool(lowers))
        top = os.open(upper, OPEN_DIRECTORY & ~os.O_NOFOLLOW)
        held.callback(os.close, top)
        with open_top(top) as fd:
            for folder in walk(fd):
                reader.read(folder)
    return sorted(reader.changes, key=lambda change: change.path)


class _Reader:
    def __init__(self, stack: Stack, *, is_compared: bool) -> None:
        self.changes: list[UpperChange] = []
        self._stack = stack
        self._is_compared = is_compared
        # Directories to come: what the lowers have there, and what they call it.
        self._below: dict[str, tuple[Entry | None, str]] = {"": (stack.root(), "")}

    def read(self, folder: Folder) -> None:
        shown, lower_name = self._below.pop(folder.path)
        if folder.fd is None:  # its own line is all there can be: what is below it has no name one could give
            self._add(folder.path, "added", folder.state)
            return
        marks = read_folder_marks(folder.fd)
        if marks.redirect:
            lower_name = _resolve(marks.redirect, lower_name)
        through = self._read_folder(folder, folder.fd, shown, marks, lower_name)
        for name, found in folder.entries:
            path = folder.below(name)
            old = None if through is None else self._stack.child(through, name)
            old_name = f"{lower_name}/{name}" if lower_name else name
            if stat.S_ISDIR(found.st_mode):
                self._below[path] = old, old_name
            else:
                self._read_entry(path, (name, found, folder.fd), old, old_name)

    def _read_folder(self, folder: Folder, fd: int, shown: Entry | None, marks: Marks, lower_name: str) -> Entry | None:
        """Says what became of the directory itself; what the lowers show through it."""
        if marks.redirect:
            self._add(folder.path, "renamed", folder.state, moved_from=lower_name, marks=marks)
            source = self._stack.find(lower_name)
            return source if source is not None and source.is_directory else None
        if not self._is_compared:
            if not marks.origin and folder.path:
                self._add(folder.path, "added", folder.state, marks=marks)
            return None
        if shown is None:
            self._add(folder.path, "added", folder.state, marks=marks)
            return None
        if not shown.is_directory or (marks.opaque and self._stack.has_entries(shown)):
            self._add(folder.path, "replaced", folder.state, marks=marks)
            return None
        same_mode = owner_and_mode(folder.state) == owner_and_mode(shown.state)
        if not same_mode or read_attributes(fd) != self._attributes(shown):
            self._add(folder.path, "metadata", folder.state, marks=marks)
        return None if marks.opaque else shown

    def _read_entry(self, path: str, new: Place, old: Entry | None, old_name: str) -> None:
        name, found, dir_fd = new
        if is_whiteout(found, name, dir_fd):
            if old is not None or not self._is_compared:
                how: Literal["device", "attribute"] = "device" if stat.S_ISCHR(found.st_mode) else "attribute"
                self._add(path, "deleted", None if old is None else old.state, whiteout=how)
            return
        marks = read_file_marks(name, dir_fd) if stat.S_ISREG(found.st_mode) else Marks()
        if marks.metacopy and marks.redirect:
            self._add(path, "renamed", found, moved_from=_resolve(marks.redirect, old_name), marks=marks)
        elif not self._is_compared:
            kind: UpperKind = "metadata" if marks.metacopy else "modified" if marks.origin else "added"
            self._add(path, kind, found, marks=marks)
        elif old is None:
            self._add(path, "added", found, marks=marks)
        elif stat.S_IFMT(found.st_mode) != stat.S_IFMT(old.state.st_mode):
            self._add(path, "replaced", found, marks=marks)
        elif (changed := self._compare(new, old, marks)) is not None:
            self._add(path, changed, found, marks=marks)

    def _compare(self, new: Place, old: Entry, marks: Marks) -> UpperKind | None:
        """What changed between entries of one type; None if nothing did."""
        (top, path), (last, content) = old.places[0], old.places[-1]
        layers = self._stack.layers
        if not marks.metacopy and len(old.places) == 1:
            return compare_entries(new, (path, old.state, layers[top]))
        name, found, dir_fd = new
        if not marks.metacopy and not has_same_content((name, dir_fd), (content, layers[last])):
            return "modified"
        same = owner_and_mode(found) == owner_and_mode(old.state) and found.st_mtime_ns == old.state.st_mtime_ns
        return None if same and has_same_attributes((name, dir_fd), (path, layers[top])) else "metadata"

    def _attributes(self, entry: Entry) -> dict[str, bytes]:
        number, path = entry.places[0]
        fd = os.open(path or ".", OPEN_DIRECTORY, dir_fd=self._stack.layers[number])
        try:
            return read_attributes(fd)
        finally:
            os.close(fd)

    def _add(
        self,
        path: str,
        kind: UpperKind,
        found: os.stat_result | None,
        *,
        moved_from: str = "",
        whiteout: Literal["", "device", "attribute"] = "",
        marks: Marks | None = None,
    ) -> None:
        is_file = found is not None and stat.S_ISREG(found.st_mode) and kind != "deleted"
        self.changes.append(
            UpperChange(
                path=path or ".",
                kind=kind,
                type=None if found is None else type_of(found.st_mode),
                size_bytes=found.st_size if is_file and found is not None else 0,
                moved_from=moved_from,
                whiteout=whiteout,
                opaque=marks is not None and marks.opaque,
                metacopy=marks is not None and marks.metacopy,
            )
        )


def _resolve(redirect: str, lower_name: str) -> str:
    """Where a redirect leads that was found on what the lowers would call `lower_name`, relative to the top."""
    if redirect.startswith("/"):
        return redirect.strip("/")
    folder = lower_name.rpartition("/")[0]
    return f"{folder}/{redirect}" if folder else redirect
