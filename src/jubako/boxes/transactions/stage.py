"""Staging: where a living run keeps what its tasks write until it is published or discarded.

    stage/RUN/ATTEMPT/N                     below the state root, where a rename from there works
    DIRECTORY/.jubako-stage/RUN/ATTEMPT/N   otherwise; see `boxes.transactions.place`

N is the number of the output. Where the output's folder passes on its group (setgid) or a default ACL, there is one
more level, `N.d/N`, with the same, so that what is staged gets what it would have got in place. ATTEMPT is the attempt
that the directory was made for: one that is empty again when the attempt was published serves a later attempt, since
disks take their time to make and remove a directory (0.05 ms on a quiet ext4, 1 ms each on one that others write to).
After any other end it does not: what the attempt has started may live for a moment yet.

One run holds one `StageArea`; it holds the run's lock, and whoever finds the lock free may `sweep` what is left.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat

from jubako.boxes.run_lock import LOCK_NAME, hold_sweeping, lock_dead_run, lock_new_run
from jubako.boxes.spec import Output, StagedOutput
from jubako.boxes.transactions.beside import unmovable_error
from jubako.boxes.transactions.place import Place, Places, find_existing_folder, is_movable, remove_places
from jubako.errors import BugError, HostError, InputError
from jubako.layers.remove import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from jubako.boxes.state import StateRoot
    from jubako.boxes.transactions.journal import Journal

__all__ = ["StageArea", "sweep", "sweep_run"]

_FOLDERS_REMEMBERED = 4096
_ALWAYS_TAKEN_BYTES = 143  # of a name: the least that a Linux file system takes (eCryptfs); most take 255
_PRIVATE = 0o700
_DEFAULT_ACL = "system.posix_acl_default"
_HINT = "declare the output in a folder that you can write to"

# Of a folder: path, device, inode, mode, group. The path, because one directory can be seen through two mounts.
_FolderKey = tuple[str, int, int, int, int]


class StageArea:
    """The staging directories of one living run, and its lock. Not for several threads.

    Opening it makes it the owner of `journal`, which from then on can be written.
    """

    def __init__(self, state: StateRoot, run_id: str, journal: Journal) -> None:
        self.run_id = run_id
        self._state = state
        self._journal = journal
        self._attempts: dict[str, list[str]] = {}
        self._empty: dict[str, list[str]] = {}  # directories to be used again, by the place they are in
        self._folders: dict[_FolderKey, tuple[Place, bytes]] = {}
        self._serial = itertools.count()
        self._lock_fd: int | None = lock_new_run(state, run_id)
        try:
            journal.owner = self
            self._places = Places(state, run_id, journal)
        except BaseException:
            if journal.has_owner(self):
                journal.owner = None
            os.close(self._lock_fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def places(self) -> tuple[str, ...]:
        """Directories outside the state root to be hidden in boxes: all `.jubako-stage` this run has made so far."""
        return tuple(dict.fromkeys(place.hidden for place in self._places.everywhere() if place.hidden))

    @property
    def home(self) -> str:
        """The run's directory below the state root."""
        return self._places.home.path

    def check(self, output: Output) -> bool:
        """True if the output is staged below the state root, from where renames reach it. Makes nothing; raises what
        `stage` would for this output alone."""
        try:
            folder, found = find_existing_folder(output.path)
            place, _ = self._look_at(folder, found, output.path)
        except OSError as error:
            raise _cannot_stage(output, error) from error
        return place is self._places.home

    def stage(self, attempt_id: str, outputs: Sequence[Output]) -> tuple[StagedOutput, ...]:
        """Makes the staging directories of one attempt (mode 0700) and says where to write each output.

        For a file nothing is there yet; for a directory an empty one is, as `mkdir` would have made it in place.
        Raises HostError, naming the output and leaving nothing, where an output cannot be written; InputError for a
        name that no file can have.
        """
        if "/" in attempt_id or attempt_id in ("", ".", "..", LOCK_NAME):
            raise BugError(f"attempt id {attempt_id!r} is no file name")
        if attempt_id in self._attempts:
            raise BugError(f"attempt {attempt_id} is staged already")
        self._attempts[attempt_id] = []
        staged: list[StagedOutput] = []
        try:
            for output in outputs:
                staged.append(self._stage(attempt_id, len(staged), output))
        except BaseException as error:
            self._discard(attempt_id, keep_empty=False)
            if isinstance(error, OSError):
                raise _cannot_stage(output, error) from error
            if isinstance(error, ValueError):
                raise InputError(f"the output {output.path!r} cannot be the name of a file: {error}") from error
            raise
        return tuple(staged)

    def discard(self, attempt_id: str) -> None:
        """Removes what an attempt has staged. Does nothing for an attempt that never staged anything.

        What an open journal entry still needs stays; the next start's recovery decides about it. What cannot be removed
        (a disk turned read-only) stays too: `close` tries again, and complains.
        """
        self._discard(attempt_id, keep_empty=False)

    def release(self, attempt_id: str) -> None:
        """`discard` after publishing, when nothing of the attempt lives: a directory that is empty serves again."""
        self._discard(attempt_id, keep_empty=True)

    def close(self) -> None:
        """Removes everything the run has staged, and ends its lock. With open journal entries only the lock ends.

        Raises HostError where something cannot be removed; the next sweep tries again.
        """
        if self._lock_fd is None:
            return
        try:
            if self._journal.entries(self.run_id):
                self._places.close()
            else:
                self._places.remove()
                _remove_run_folder(self._state, self.run_id)
        except OSError as error:
            raise _cannot_sweep(self.run_id, error) from error
        finally:
            self._places.close()
            self._journal.owner = None
            os.close(self._lock_fd)
            self._lock_fd = None

    def find_sync_descriptor(self, device: int) -> int | None:
        """A descriptor on the file system `device`, opened before any task wrote there; None if nothing is staged
        there."""
        for place in self._places.everywhere():
            if place.device == device:
                return place.fd
        return None

    def make_aside(self, target: str) -> str:
        """A free name in a staging directory on the mount of `target`, to move a deleted file or directory to."""
        staging, names = self.make_asides(target)
        return os.path.join(staging, next(names))

    def make_asides(self, target: str) -> tuple[str, Iterator[str]]:
        """A staging directory on the mount of `target`, and free names in it, as many as are asked for."""
        folder, _ = find_existing_folder(target)
        return self._places.find(folder, target).path, (f".aside-{number}" for number in self._serial)

    def _discard(self, attempt_id: str, *, keep_empty: bool) -> None:
        directories = self._attempts.pop(attempt_id, [])
        entries = self._journal.entries(self.run_id)
        needed = {f"{group.staging}/" for entry in entries for group in entry.moves.groups()}
        for directory in directories:
            if any(path.startswith(f"{directory}/") for path in needed):
                continue
            with contextlib.suppress(OSError):
                if keep_empty and _is_as_new(directory):
                    self._empty.setdefault(os.path.dirname(directory), []).append(directory)
                    continue
                remove_tree(directory)

    def _stage(self, attempt_id: str, number: int, output: Output) -> StagedOutput:
        if output.kind == "elsewhere":
            directory = self._find_directory(attempt_id, self._places.home.path)
            return StagedOutput(output.path, output.kind, f"{directory}/{number}")
        folder, found = find_existing_folder(output.path)
        place, default_acl = self._look_at(folder, found, output.path)
        directory = self._find_directory(attempt_id, place.path)
        if found.st_mode & stat.S_ISGID or default_acl:
            directory = f"{directory}/{number}.d"
            _make_alike(directory, found, default_acl)
        staged = f"{directory}/{number}"
        if output.kind == "directory":
            os.mkdir(staged)
        return StagedOutput(output.path, output.kind, staged)

    def _find_directory(self, attempt_id: str, place: str) -> str:
        """The directory of the attempt in `place`: the one it has there, an empty one of another, or a new one."""
        own = self._attempts[attempt_id]
        for directory in own:
            if os.path.dirname(directory) == place:
                return directory
        empty = self._empty.get(place)
        if empty:
            directory = empty.pop()
        else:
            directory = f"{place}/{attempt_id}"
            os.mkdir(directory, _PRIVATE)
        own.append(directory)
        return directory

    def _look_at(self, folder: str, found: os.stat_result, path: str) -> tuple[Place, bytes]:
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            raise HostError(f"the output {path} cannot be written: {_why_not(folder)}", hint=_HINT)
        _check_names(folder, path)
        is_directory = False
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            there = os.lstat(path)
            is_directory = stat.S_ISDIR(there.st_mode)
            if there.st_dev != found.st_dev:
                raise HostError(
                    f"the output {path} cannot be replaced: it is a mount point", hint="declare outputs below it"
                )
        key = (folder, found.st_dev, found.st_ino, found.st_mode, found.st_gid)
        known = self._folders.get(key)
        if known is None:
            if len(self._folders) >= _FOLDERS_REMEMBERED:
                self._folders.clear()
            known = self._folders[key] = (self._places.find(folder, path), _read_default_acl(folder))
        if is_directory and known[0].has_layers and not is_movable(path, known[0].path):
            raise unmovable_error(path)
        return known


def sweep(state: StateRoot, journal: Journal) -> tuple[str, ...]:
    """Removes what dead runs have left, and answers with their ids. Idempotent; may be killed; safe concurrently.

    A run that has open journal entries keeps everything: recovery comes first. Raises HostError where something of a
    dead run cannot be removed.
    """
    with hold_sweeping(state):
        return tuple(run_id for run_id in find_runs(state, journal) if sweep_run(state, journal, run_id))


def sweep_run(state: StateRoot, journal: Journal, run_id: str) -> bool:
    """`sweep` for one run, while sweeping is held; True if the run is dead and nothing is left of it."""
    with lock_dead_run(state, run_id) as dead:
        if not dead or journal.entries(run_id):
            return False
        try:
            remove_places(journal, run_id)
            _remove_run_folder(state, run_id)
        except OSError as error:
            raise _cannot_sweep(run_id, error) from error
        return True


def find_runs(state: StateRoot, journal: Journal) -> list[str]:
    """The ids of all runs, living or dead, of which there is a staging directory or a row."""
    return sorted({*os.listdir(state.stage_path), *journal.run_ids()})


def _remove_run_folder(state: StateRoot, run_id: str) -> None:
    """The lock goes last: as long as it is there, so is the proof that this run is dead (or ours)."""
    folder = os.path.join(state.stage_path, run_id)
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        if name.endswith(".groups"):
            from jubako.boxes.resources.groups import sweep_groups  # 2 modules, for tasks with limits that were killed

            sweep_groups(os.path.join(folder, name))
        if name != LOCK_NAME:
            remove_tree(os.path.join(folder, name))
    remove_tree(folder)


def _check_names(folder: str, path: str) -> None:
    """Raises OSError if a name below `folder` that is not there yet is one that its file system does not take.

    Asked of the path as a whole, the kernel would say no more than that the first of them is missing.
    """
    missing = path[len(folder) :].strip("/").split("/")
    for name in missing if len(missing) > 1 else ():
        if len(os.fsencode(name)) > _ALWAYS_TAKEN_BYTES:
            with contextlib.suppress(FileNotFoundError):
                os.lstat(f"{folder}/{name}")


def _make_alike(directory: str, folder: os.stat_result, default_acl: bytes) -> None:
    """Makes `directory` private, passing on to what is made in it the group and the default ACL that `folder` does."""
    os.mkdir(directory, _PRIVATE)
    if folder.st_mode & stat.S_ISGID:
        with contextlib.suppress(PermissionError):  # not a member of that group: then nothing would be passed on
            os.chown(directory, -1, folder.st_gid)
            os.chmod(directory, 0o2700)
    if default_acl:
        os.setxattr(directory, _DEFAULT_ACL, default_acl)


def _is_as_new(directory: str) -> bool:
    """True if a staging directory is empty, as private as it was made, and passes nothing on."""
    if os.listdir(directory) or stat.S_IMODE(os.lstat(directory).st_mode) != _PRIVATE:
        return False
    return _DEFAULT_ACL not in os.listxattr(directory)


def _read_default_acl(folder: str) -> bytes:
    try:
        return os.getxattr(folder, _DEFAULT_ACL)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return b""
        raise


def _cannot_sweep(run_id: str, error: OSError) -> HostError:
    return HostError(
        f"what run {run_id} has staged cannot be removed: {os.fsdecode(error.filename or '')}: {error.strerror}",
        hint="the next start of jubako tries again",
    )


def _cannot_stage(output: Output, error: OSError) -> HostError:
    return HostError(f"the output {output.path} cannot be staged: {error.strerror or error}", hint=_HINT)


def _why_not(folder: str) -> str:
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"{folder} is on a read-only file system"
    return f"user {os.geteuid()} may not write to {folder}"
