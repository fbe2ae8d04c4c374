"""Copies files between this machine and a living box, through a descriptor of the root of the box's view.

Every directory is opened below that by openat2(2): a link inside leads to where it would lead inside, or nowhere, and
not to this machine's files, whatever a program in the box makes of it meanwhile. Entries are then named by one name in
an opened directory and never followed. Copied are what `layers.copy` copies: no setuid bits, capabilities, devices,
pipes and sockets, and each that is left out is said.
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.errors import HostError, InputError
from jubako.kernel.files import RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, openat2
from jubako.layers.copy import copy_directory_state, copy_entry
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["STAY", "Place", "copy_between", "open_root", "open_source", "open_target"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
STAY = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_DEEPEST = 4096


@record
class Place:
    """A path on this machine or in a box. `root` is a descriptor of the root directory that `path` is looked up in."""

    root: int
    path: str  # absolute
    shown: str  # for people


def open_root() -> int:
    """A descriptor of this machine's root directory."""
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def copy_between(source: Place, destination: Place, *, keep_owner: bool) -> tuple[str, ...]:
    """Copies a file or a directory with all below it, as cp(1) does with -a; what was left out, in words.

    Into a directory that is there, it is copied under its own name (what is in it, if it is named with a "/" at the
    end); else under the destination's. What is there under that name is replaced if it is no directory; directories are
    merged. Raises InputError for what isn't there, HostError where something cannot be read or written: part of it may
    have been copied.
    """
    try:
        folder, name = open_source(source)
        try:
            target, target_name = open_target(destination, name)
            try:
                copy = _Copy(keep_owner=keep_owner)
                found = os.fstat(folder) if not name else os.stat(name, dir_fd=folder, follow_symlinks=False)
                copy.copy((folder, name), (target, target_name), found, source.shown.rstrip("/"))
                return tuple(copy.refused)
            finally:
                os.close(target)
        finally:
            os.close(folder)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise HostError(
            f"{source.shown} cannot be copied to {destination.shown}: {error.strerror}{where}",
            hint="Make room there." if is_full else "",
        ) from error


class _Copy:
    """One copy going on: what was refused, and how the trees are walked."""

    def __init__(self, *, keep_owner: bool) -> None:
        self.refused: list[str] = []
        self._keep_owner = keep_owner

    def copy(self, source: tuple[int, str], target: tuple[int, str], found: os.stat_result, shown: str) -> None:
        """Copies what `source`, a directory and a name in it, is ("": the directory itself)."""
        folder, name = source
        if not stat.S_ISDIR(found.st_mode):
            self._copy_file(source, target, found, shown)
            return
        top = openat2(folder, name or ".", _DIRECTORY, resolve=STAY if name else 0)
        try:
            made = self._open_made(target, shown)
            try:
                self._copy_folder(top, made, shown)
            finally:
                os.close(made)
        finally:
            os.close(top)

    def _copy_folder(self, source: int, target: int, shown: str) -> None:
        """The directory behind `source` into that behind `target`; those inside wait their turn."""
        waiting = [""]
        done: list[str] = []
        while waiting:
            path = waiting.pop()
            if len(path) > _DEEPEST:
                self.refused.append(f"{shown}/{path[:200]}...: deeper than a path can say, left out")
                continue
            folder = openat2(source, path or ".", _DIRECTORY, resolve=STAY if path else 0)
            into = openat2(target, path or ".", _DIRECTORY, resolve=STAY if path else 0)
            try:
                for name, found in _entries(folder):
                    below = f"{path}/{name}" if path else name
                    if stat.S_ISDIR(found.st_mode):
                        os.close(self._open_made((into, name), f"{shown}/{below}"))
                        waiting.append(below)
                    else:
                        self._copy_file((folder, name), (into, name), found, f"{shown}/{below}")
            finally:
                os.close(folder)
                os.close(into)
            done.append(path)
        for path in reversed(done):  # when all is in them
            folder = openat2(source, path or ".", _DIRECTORY, resolve=STAY if path else 0)
            into = openat2(target, path or ".", _DIRECTORY, resolve=STAY if path else 0)
            try:
                self.refused += copy_directory_state(folder, into, f"{shown}/{path}", keep_owner=self._keep_owner)
            finally:
                os.close(folder)
                os.close(into)

    def _copy_file(self, source: tuple[int, str], target: tuple[int, str], found: os.stat_result, shown: str) -> None:
        """Under a name of its own first, which replaces what is there only when it is whole."""
        folder, name = target
        new = f".jubako-cp-{os.getpid()}-{name}"[:255]
        try:
            refused = copy_entry((source[1], source[0]), (new, folder), found, shown, keep_owner=self._keep_owner)
            self.refused += refused
            if _exists(new, folder):
                os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            if _exists(new, folder):
                os.unlink(new, dir_fd=folder)
            raise

    def _open_made(self, target: tuple[int, str], shown: str) -> int:
        folder, name = target
        if name:
            try:
                os.mkdir(name, 0o700, dir_fd=folder)
            except FileExistsError:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISDIR(found.st_mode):
                    raise HostError(f"{shown} is a directory, and what is there under that name is none") from None
        return openat2(folder, name or ".", _DIRECTORY, resolve=STAY if name else 0)


def open_source(place: Place) -> tuple[int, str]:
    """The directory, opened, that the source is in, and its name there; "" for what is named as a directory ("d/")."""
    above, name = os.path.split(place.path.rstrip("/") or "/")
    try:
        if place.path.endswith(("/", "/.")) or not name or name in (".", ".."):
            return openat2(place.root, place.path, _DIRECTORY, resolve=RESOLVE_IN_ROOT), ""
        folder = openat2(place.root, above, _DIRECTORY, resolve=RESOLVE_IN_ROOT)
        try:
            os.stat(name, dir_fd=folder, follow_symlinks=False)
        except BaseException:
            os.close(folder)
            raise
        return folder, name
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{place.shown} is not there") from error


def open_target(place: Place, name: str) -> tuple[int, str]:
    """The directory, opened, to copy into and the name to give there; "" for the directory itself."""
    try:
        return openat2(place.root, place.path, _DIRECTORY, resolve=RESOLVE_IN_ROOT), name
    except NotADirectoryError:
        if place.path.endswith("/"):
            raise InputError(f"{place.shown} is no directory") from None
    except FileNotFoundError:
        if place.path.endswith("/"):
            raise InputError(f"{place.shown} is not there") from None
    above, last = os.path.split(place.path)
    try:
        return openat2(place.root, above or "/", _DIRECTORY, resolve=RESOLVE_IN_ROOT), last
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"the directory of {place.shown} is not there") from error


def _entries(folder: int) -> Iterator[tuple[str, os.stat_result]]:
    for name in sorted(os.listdir(folder)):
        try:
            yield name, os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:  # it has just been removed
            continue


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
