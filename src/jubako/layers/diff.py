"""What a box changed: the upper directory of its overlay read against the lower one. Nothing is mounted for it.

Every entry of the upper is looked at once, together with its counterpart in the lower:

    upper                    lower          change
    whiteout                 something      DELETED, one for a whole directory
    whiteout                 nothing        none: created and removed
    anything                 nothing        ADDED, directories with all below them
    anything                 another type   REPLACED, what is below it ADDED
    directory, opaque        not empty      REPLACED, what is below it ADDED
    directory                directory      METADATA if mode, owner, attributes or ACL differ
    file, link, device       the same type  MODIFIED if the content differs, METADATA as above or if a file's time does

Copied up and unchanged is no change. Neither is a directory's modification time: creating and removing a file in it
leaves that. Paths that are not UTF-8 come with surrogate escapes.
"""

from __future__ import annotations

import os
import stat

from jubako.layers.attributes import read_attributes
from jubako.layers.change import Change, ChangeKind
from jubako.layers.entry import type_of
from jubako.layers.walk import OPEN_DIRECTORY, Folder, open_top, walk
from jubako.layers.whiteout import is_whiteout, read_marks, refuse_metacopy
from jubako.records import record

__all__ = [
    "Place",
    "compare_entries",
    "has_same_attributes",
    "has_same_content",
    "owner_and_mode",
    "read_changes",
]

Place = tuple[str, os.stat_result, int]  # a name, its state, and the descriptor of the directory it is in

_CHUNK = 1 << 20
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_changes(upper: int | str, lower: int | str, prefix: str, *, userxattr: bool | None = None) -> list[Change]:
    """All changes, sorted by path; `prefix` is the absolute path that the overlay covered, and `userxattr` whether it
    kept its marks in user.*; None: not known.

    `upper` and `lower` are paths or descriptors of directories. The overlay must not be in use any more. Where `lower`
    has mounts below it, give a descriptor of a copy without them (open_tree): the overlay did not show them either.
    Raises HostError on redirects and metacopy, OSError on what cannot be read.
    """
    with open_top(upper) as upper_fd, open_top(lower) as lower_fd:
        reader = _Reader(lower_fd, prefix.rstrip("/"), userxattr)
        for folder in walk(upper_fd):
            reader.read(folder)
    return sorted(reader.changes)


@record(frozen=False)
class _Reader:
    lower: int
    prefix: str
    userxattr: bool | None
    changes: list[Change]
    below: dict[str, os.stat_result | None]  # directories to come: what the lower has there

    def __init__(self, lower: int, prefix: str, userxattr: bool | None) -> None:
        self.lower = lower
        self.prefix = prefix
        self.userxattr = userxattr
        self.changes = []
        self.below = {"": os.fstat(lower)}

    def read(self, folder: Folder) -> None:
        lower_state = self.below.pop(folder.path)
        if folder.fd is None:  # its own line is all there can be: what is below it has no name one could give
            self._add(folder.path, "added", folder.state)
            return
        lower_fd = self._open_lower(folder, lower_state)
        if lower_fd is None:
            self._read_new(folder)
            return
        try:
            for name, found in folder.entries:
                old = _stat_below(name, lower_fd)
                if stat.S_ISDIR(found.st_mode):
                    self.below[folder.below(name)] = old
                else:
                    self._read_entry(folder, name, found, old, lower_fd)
        finally:
            if lower_fd is not None:
                os.close(lower_fd)

    def _read_new(self, folder: Folder) -> None:
        """Reads a directory that the lower one has nothing of: all in it is new, or a whiteout of nothing."""
        assert folder.fd is not None
        where = self._name(folder.path)
        for name, found in folder.entries:
            if stat.S_ISDIR(found.st_mode):
                self.below[folder.below(name)] = None
            elif stat.S_ISREG(found.st_mode) and found.st_size:
                self.changes.append(Change(f"{where}/{name}", "added", "file", found.st_size))
            else:
                self._read_entry(folder, name, found, None, None)

    def _open_lower(self, folder: Folder, old: os.stat_result | None) -> int | None:
        """Says what became of the directory itself; the descriptor of the lower one if it shows through."""
        assert folder.fd is not None
        opaque = read_marks(folder.fd, self._name(folder.path), userxattr=self.userxattr).opaque
        if old is None:
            self._add(folder.path, "added", folder.state)
            return None
        if not stat.S_ISDIR(old.st_mode):
            self._add(folder.path, "replaced", folder.state)
            return None
        lower_fd = os.open(folder.path or ".", OPEN_DIRECTORY, dir_fd=self.lower)
        if opaque and os.listdir(lower_fd):
            os.close(lower_fd)
            self._add(folder.path, "replaced", folder.state)
            return None
        if owner_and_mode(folder.state) != owner_and_mode(old) or read_attributes(folder.fd) != read_attributes(
            lower_fd
        ):
            self._add(folder.path, "metadata", folder.state)
        return lower_fd

    def _read_entry(
        self, folder: Folder, name: str, found: os.stat_result, old: os.stat_result | None, lower_fd: int | None
    ) -> None:
        assert folder.fd is not None
        path = folder.below(name)
        if is_whiteout(found, name, folder.fd, userxattr=self.userxattr):
            if old is not None:
                self._add(path, "deleted", old)
            return
        if old is None:  # whether its content is elsewhere is asked by who copies it: that reads its attributes anyway
            self._add(path, "added", found)
            return
        if stat.S_IFMT(found.st_mode) != stat.S_IFMT(old.st_mode):
            self._add(path, "replaced", found)
        else:
            assert lower_fd is not None
            kind = compare_entries((name, found, folder.fd), (name, old, lower_fd), shown=self._name(path))
            if kind is not None:
                self._add(path, kind, found)

    def _add(self, path: str, kind: ChangeKind, found: os.stat_result) -> None:
        size = found.st_size if stat.S_ISREG(found.st_mode) and kind != "deleted" else 0
        self.changes.append(Change(self._name(path), kind, type_of(found.st_mode), size))

    def _name(self, path: str) -> str:
        return f"{self.prefix}/{path}" if path else self.prefix or "/"


def _stat_below(name: str, fd: int | None) -> os.stat_result | None:
    if fd is None:
        return None
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def compare_entries(new: Place, old: Place, *, shown: str = "") -> ChangeKind | None:
    """What changed between two entries of one type that is not a directory; None if nothing did.

    Raises HostError, which calls the entry `shown`, for a file whose content is in a lower directory (metacopy).
    """
    (name, found, found_fd), (old_name, was, was_fd) = new, old
    same_metadata = owner_and_mode(found) == owner_and_mode(was)
    if stat.S_ISREG(found.st_mode):
        if found.st_size != was.st_size:
            return "modified"
        same_content, same_attributes = _compare_files((name, found_fd), (old_name, was_fd), found.st_size, shown)
        if not same_content:
            return "modified"
        same_metadata = same_metadata and same_attributes and found.st_mtime_ns == was.st_mtime_ns
    elif stat.S_ISLNK(found.st_mode):
        if os.readlink(name, dir_fd=found_fd) != os.readlink(old_name, dir_fd=was_fd):
            return "modified"
    elif found.st_rdev != was.st_rdev:
        return "modified"
    return None if same_metadata else "metadata"


def has_same_content(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two files (a name, the descriptor of a directory) have the same bytes. Unreadable ones have not."""
    sizes = [os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_size for name, dir_fd in (one, other)]
    return sizes[0] == sizes[1] and _compare_files(one, other, sizes[0])[0]


def has_same_attributes(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two files have the same attributes that count. Unreadable ones have not."""
    found = []
    for name, dir_fd in (one, other):
        try:
            fd = os.open(name, _OPEN_FILE, dir_fd=dir_fd)
        except PermissionError:
            return False
        try:
            found.append(read_attributes(fd))
        finally:
            os.close(fd)
    return found[0] == found[1]


def _compare_files(one: tuple[str, int], other: tuple[str, int], size: int, shown: str = "") -> tuple[bool, bool]:
    """Whether two files of `size` bytes have the same bytes, and the same attributes (False where the bytes differ).

    Times are no help: a program may set them back. Unreadable ones count as different. With `shown`, what the first is
    called, its content must be its own.
    """
    fds: list[int] = []
    try:
        for name, dir_fd in (one, other):
            fds.append(os.open(name, _OPEN_FILE, dir_fd=dir_fd))
        new, old = fds
        if shown:
            refuse_metacopy(new, shown)
        while size > 0 and (chunk := os.read(new, min(size, _CHUNK))):
            if chunk != os.read(old, len(chunk)):
                return False, False
            size -= len(chunk)
        return True, read_attributes(new) == read_attributes(old)
    except PermissionError:
        return False, False
    finally:
        for fd in fds:
            os.close(fd)


def owner_and_mode(found: os.stat_result) -> tuple[int, int, int]:
    """What of an entry's state counts as metadata, besides times and attributes."""
    # The mode of a symbolic link means nothing.
    mode = 0 if stat.S_ISLNK(found.st_mode) else stat.S_IMODE(found.st_mode)
    return mode, found.st_uid, found.st_gid
