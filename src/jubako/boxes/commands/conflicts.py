"""What stands in the way of committing a box's changes: what was changed on this machine after the box was started.

An inode's change time, which no program can set back, must lie before the start. Of a directory that is replaced or
deleted, this holds for everything below it. The kernel stamps files with a clock that runs up to one tick (4 ms or so)
behind; a change in the tick in which the box was started came before all that the command did, and counts as seen.

What the box changed and the machine no longer has is a conflict too. Overlayfs's note on a copy (`origin`) says that
there was something; but a file that the box gave another name carries it along. So a name is only missed if its folder
has lost something since the start, and if the box has not got the file from another name.
"""

from __future__ import annotations

import os
import stat

from jubako.boxes.keeping.copied_up import read_copied_up
from jubako.boxes.transactions.signature import Signature, signature_of, take_signature
from jubako.errors import ConflictError
from jubako.layers.walk import open_top, walk
from jubako.layers.whiteout import ORIGIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from jubako.boxes.commands.box_files import BoxFiles
    from jubako.boxes.commands.plan_commit import CommitPlan
    from jubako.boxes.keeping.kept_record import BoxRecord
    from jubako.layers.change import Change

__all__ = ["Conflicts"]

_HINT = "Nothing was published. Run it again in a new box, or look at the two versions and decide."


class Conflicts:
    """Looks at this machine for the box with these `files`. `changes` are all of the box's."""

    def __init__(self, files: BoxFiles, directory: str, changes: Sequence[Change]) -> None:
        self._files = files
        self._record: BoxRecord = files.record
        self._started_ns = files.record.started_ns
        self._directory = directory
        self._changes = changes
        self._folder_times: dict[str, int] = {}
        self._noted: frozenset[str] | None = None
        self._other_names: dict[tuple[int, int], list[str]] | None = None

    def check_targets(self, plan: CommitPlan) -> None:
        """Raises ConflictError if a directory the box was about is another one now: its disk is not mounted, say."""
        for layer in self._record.layers:
            prefix = f"{layer.target.rstrip('/')}/"
            if layer.inode and any(c.path.startswith(prefix) or c.path == layer.target for c in plan.published):
                found = os.stat(layer.target).st_ino if os.path.isdir(layer.target) else None
                if found != layer.inode:
                    raise ConflictError(
                        f"{layer.target} is {'gone' if found is None else 'another directory'} since box "
                        f"{self._record.id} was started",
                        hint="Is its file system mounted? Nothing was published.",
                    )

    def check_folders(self, folders: Iterable[str], made: Iterable[Change]) -> None:
        """Raises ConflictError if a directory that the box put something into, and has not `made`, is gone.

        Before anything is staged, which changes directories: what was changed until now is what others changed.
        """
        known = {change.path for change in made}
        for folder in folders:
            found = _stat_directory(folder)
            if found is not None:
                self._folder_times[folder] = found.st_ctime_ns
            elif folder not in known:
                raise self._error(folder, "was deleted")

    def check_time(self, path: str, found: os.stat_result) -> None:
        """Raises ConflictError if what is at `path` was put there, or changed, after the box was started."""
        if found.st_ctime_ns >= self._started_ns:
            raise self._error(path, "was changed")

    def check_missing(self, path: str, source: str, notes: Collection[str]) -> None:
        """Raises ConflictError if there was something at `path`, where nothing is; `source`, which has these `notes` of
        overlayfs, is the box's version of it."""
        if self._was_copied_up(path, notes) and self._is_missed(path, source):
            raise self._error(path, "was deleted")

    def look(self, change: Change) -> Signature | None:
        """The signature of what stands at the path now, if that is what stood there when the box was started."""
        path = change.path
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            if change.kind != "deleted":
                source = self._files.find(path)
                self.check_missing(path, source, _list_notes(source))
            return None
        self.check_time(path, found)
        if not stat.S_ISDIR(found.st_mode):
            return signature_of(found)
        signature = take_signature(path)
        try:
            newer = self._find_newer(path)
        except (FileNotFoundError, NotADirectoryError):  # it was there a moment ago
            newer = path
        if newer is not None:
            raise self._error(newer, "was changed")
        return signature

    def _find_newer(self, path: str) -> str | None:
        """The first entry below the directory `path` whose inode changed when the box was started or later."""
        with open_top(path) as top:
            for folder in walk(top):
                for name, state in folder.entries:
                    if state.st_ctime_ns >= self._started_ns:
                        return f"{path}/{folder.below(name)}"
        return None

    def _is_missed(self, path: str, source: str) -> bool:
        """True if the machine had `path` when the box was started, for all one can tell. It has not now."""
        changed_ns = self._folder_times.get(os.path.dirname(path))
        if changed_ns is None:
            return True
        if changed_ns < self._started_ns:  # nothing has been taken from it since
            return False
        return not self._came_from_elsewhere(source)

    def _was_copied_up(self, path: str, notes: Collection[str]) -> bool:
        if self._noted is None:
            self._noted = frozenset(read_copied_up(self._directory))
        return path in self._noted or not ORIGIN.isdisjoint(notes)

    def _came_from_elsewhere(self, source: str) -> bool:
        """True if the box's file `source` is one that the machine has, or had, under another name: linked or moved."""
        found = os.lstat(source)
        if stat.S_ISDIR(found.st_mode):
            return False
        for change in self._changes:
            if change.kind == "deleted" and change.type != "directory":
                try:
                    was = os.lstat(change.path)
                except OSError:
                    continue
                # A copy keeps the time to the nanosecond, and moving it changes nothing of that.
                if (was.st_size, was.st_mtime_ns) == (found.st_size, found.st_mtime_ns):
                    return True
        if found.st_nlink < 2:
            return False
        if self._other_names is None:
            self._other_names = _find_links(self._files.record, self._directory)
        return any(os.path.lexists(name) for name in self._other_names.get((found.st_dev, found.st_ino), ()))

    def _error(self, path: str, what: str) -> ConflictError:
        return ConflictError(f"{path} {what} on this machine after box {self._record.id} was started", hint=_HINT)


def _stat_directory(path: str) -> os.stat_result | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found if stat.S_ISDIR(found.st_mode) else None


def _list_notes(source: str) -> list[str]:
    try:
        return os.listxattr(source, follow_symlinks=False)
    except OSError:
        return []


def _find_links(record: BoxRecord, directory: str) -> dict[tuple[int, int], list[str]]:
    """The files in the box's uppers that have several names, and what the machine calls each of those."""
    names: dict[tuple[int, int], list[str]] = {}
    for layer in record.layers:
        with open_top(os.path.join(directory, layer.upper)) as top:
            for folder in walk(top):
                for name, state in folder.entries:
                    if state.st_nlink > 1 and stat.S_ISREG(state.st_mode):
                        path = f"{layer.target.rstrip('/')}/{folder.below(name)}"
                        names.setdefault((state.st_dev, state.st_ino), []).append(path)
    return names
