"""Where an output can be staged: a directory from which a rename to the output works.

"The same file system" means: the same mount, and a trial rename succeeded. Two mounts of one file system answer EXDEV,
and so do btrfs subvolumes and project quotas within one mount. The trial also shows whether the file system knows the
conditional renames that publishing needs. One trial per mount and device; its name in the output's folder is recorded
in the journal's places first, so that a kill leaves nothing for good.

The first choice is the run's directory below the state root, otherwise `.jubako-stage/RUN` in the nearest existing
directory above the output. A `.jubako-stage` of somebody else is left alone; `.jubako-stage-UID` is taken then.

Of what a trial cannot foretell, a file that belongs to another project is seen to by `beside`. A directory that comes
from a lower layer of an overlay cannot be moved at all; `is_movable` tells.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from jubako.boxes.transactions.journal import HIDDEN_NAME, Journal
from jubako.errors import BugError, HostError
from jubako.kernel.files import RENAME_EXCHANGE, RENAME_NOREPLACE, Statx, renameat2, statx, syncfs
from jubako.kernel.mount_table import read_mount_table
from jubako.kernel.syscalls import AT_FDCWD
from jubako.layers.remove import remove_tree
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from jubako.boxes.state import StateRoot

__all__ = ["Place", "Places", "find_existing_folder", "is_movable", "make_hidden_folder", "remove_places"]

_TRIAL_NAME = ".jubako-trial"
_FULL_NAME = ".jubako-full"
_HINT = "declare the output in a folder that you can write to"


@record
class Place:
    """A staging directory of one run on one mount. `fd` is a descriptor on it, opened before any task wrote there."""

    path: str
    device: int
    fd: int
    hidden: str = ""  # the .jubako-stage above it; "" below the state root
    has_layers: bool = False  # it is on an overlay, where a directory may be one that cannot be moved


class Places:
    """The places of one run, made as outputs need them. Closed by `remove`, or by `close` if they must stay."""

    def __init__(self, state: StateRoot, run_id: str, journal: Journal) -> None:
        self._run_id = run_id
        self._journal = journal
        home = os.path.join(state.stage_path, run_id)
        found = statx(AT_FDCWD, home)
        self._home = Place(home, found.device, _open_directory(home), has_layers=_is_overlay(found))
        self._home_mount = found.mnt_id
        self._by_mount: dict[tuple[int, int], Place] = {}
        self._foreign: list[Place] = []
        self._is_open = True

    @property
    def home(self) -> Place:
        """The place below the state root."""
        return self._home

    def everywhere(self) -> list[Place]:
        """All places there are, the one below the state root first."""
        return [self._home, *self._foreign]

    def find(self, folder: str, path: str) -> Place:
        """The place to stage `path`, which will be renamed into `folder`, which exists, or below it.

        Raises HostError, which names `path`, if there is none.
        """
        try:
            found = statx(AT_FDCWD, folder, 0)
            key = (found.mnt_id, found.device)
            place = self._by_mount.get(key)
            if place is None:
                place = self._choose(folder, path, same_mount=found.mnt_id == self._home_mount)
                self._by_mount[key] = place
            return place
        except OSError as error:
            raise HostError(
                f"the output {path} cannot be staged: nothing can be made in {folder}: {error.strerror}", hint=_HINT
            ) from error

    def remove(self) -> None:
        """Removes everything outside the state root, and closes the descriptors."""
        remove_places(self._journal, self._run_id)
        self.close()

    def close(self) -> None:
        """Closes the descriptors; what was made stays. Idempotent."""
        if not self._is_open:
            return
        self._is_open = False
        for place in self.everywhere():
            os.close(place.fd)

    def _choose(self, folder: str, path: str, *, same_mount: bool) -> Place:
        if same_mount and self._try(self._home, folder, path):
            return self._home
        place = self._make_foreign(folder, path)
        if not self._try(place, folder, path):
            raise HostError(
                f"the output {path} cannot be staged: in {folder} not even a rename within it works", hint=_HINT
            )
        return place

    def _try(self, place: Place, folder: str, path: str) -> bool:
        """True if files can be renamed from `place` to `folder`, and exchanged; leaves nothing behind."""
        there = os.path.join(folder, f"{_TRIAL_NAME}-{self._run_id}")
        self._journal.add_place(self._run_id, there)
        here = [os.path.join(place.path, f"{_TRIAL_NAME}-{number}") for number in (1, 2)]
        folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # by which it is found again
        try:
            for trial in here:
                os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            try:
                renameat2(AT_FDCWD, here[0], folder_fd, os.path.basename(there), RENAME_NOREPLACE)
                renameat2(AT_FDCWD, here[1], folder_fd, os.path.basename(there), RENAME_EXCHANGE)
            except OSError as error:
                if error.errno == errno.EXDEV:
                    return False
                if error.errno == errno.EINVAL:
                    raise HostError(
                        f"the output {path} cannot be published safely: the file system of {folder} cannot rename on "
                        "conditions (renameat2)",
                        hint="write to a local file system, and copy from there in a task of its own",
                    ) from error
                raise
            return True
        finally:
            try:
                remove_tree(os.path.basename(there), dir_fd=folder_fd)
                for trial in here:
                    remove_tree(trial)
            finally:
                os.close(folder_fd)

    def _make_foreign(self, folder: str, path: str) -> Place:
        made = make_hidden_folder(folder, self._run_id, self._journal, path)
        found = statx(AT_FDCWD, made)
        place = Place(made, found.device, _open_directory(made), os.path.dirname(made), _is_overlay(found))
        self._foreign.append(place)
        return place


def make_hidden_folder(folder: str, run_id: str, journal: Journal, output: str) -> str:
    """`.jubako-stage/RUN` in `folder`, made where it is missing, and in the journal before that.

    Raises HostError, which names `output`, if the name is somebody else's.
    """
    for hidden in (HIDDEN_NAME, f"{HIDDEN_NAME}-{os.geteuid()}"):
        path = os.path.join(folder, hidden, run_id)
        journal.add_place(run_id, path)
        if _make_private(os.path.dirname(path), run_id):
            return path
    raise HostError(
        f"the output {output} cannot be staged: {HIDDEN_NAME} in {folder} belongs to somebody else",
        hint=f"remove {os.path.join(folder, HIDDEN_NAME)}",
    )


def is_movable(directory: str, place: str) -> bool:
    """False if the kernel will not let `directory` be renamed, not even to `place`, a staging directory beside it.

    Nothing is moved: a rename over a directory that is not empty fails, and what is found out is why. An overlay
    without redirect_dir looks first whether the directory comes from a lower layer (`ovl_can_move` in the kernel's
    fs/overlayfs/dir.c), as file systems with project quotas look at the projects first.
    """
    full = os.path.join(place, _FULL_NAME)
    os.makedirs(os.path.join(full, "entry"), exist_ok=True)
    try:
        os.rename(directory, full)
    except OSError as error:
        remove_tree(full)
        if error.errno not in (errno.EXDEV, errno.ENOTEMPTY, errno.EEXIST):
            raise
        return error.errno != errno.EXDEV
    raise BugError(f"{directory} was renamed over {full}, which was not empty")


def find_existing_folder(path: str) -> tuple[str, os.stat_result]:
    """The innermost existing directory above `path`, and its state. Raises HostError if something else is in the way.

    Symbolic links on the way are followed, as any program that writes `path` would.
    """
    folder = os.path.dirname(path)
    while True:
        try:
            found = os.stat(folder)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(folder):
                raise HostError(f"{folder}, above the output {path}, is a symbolic link to nothing") from None
            folder = os.path.dirname(folder)
            continue
        except OSError as error:
            raise HostError(f"the output {path} cannot be written: {folder}: {error.strerror}", hint=_HINT) from error
        if not stat.S_ISDIR(found.st_mode):
            raise HostError(f"the output {path} cannot be written: {folder} is not a directory", hint=_HINT)
        return folder, found


def remove_places(journal: Journal, run_id: str) -> None:
    """Removes all a run has made outside the state root, then forgets it. Idempotent; may be killed."""
    paths = journal.places(run_id)
    if not paths:
        return
    for path in paths:
        _remove_place(path)
    if journal.is_durable:  # or a power cut might bring back what nobody remembers any more
        _sync_all(os.path.dirname(path) for path in paths)
    journal.remove_places(run_id)


def _sync_all(folders: Iterable[str]) -> None:
    synced = set()
    for folder in folders:
        existing = folder
        while not os.path.isdir(existing):
            existing = os.path.dirname(existing)
        fd = os.open(existing, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            device = os.fstat(fd).st_dev
            if device not in synced:
                syncfs(fd)
                synced.add(device)
        finally:
            os.close(fd)


def _remove_place(path: str) -> None:
    """Removes a run's directory (or trial file) outside the state root, and `.jubako-stage` above it if it is empty.

    Nothing there is fine. What has become a symbolic link, or belongs to somebody else, is left alone.
    """
    above, name = os.path.split(path)
    try:
        fd = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        if error.errno == errno.ELOOP:
            return
        raise
    try:
        if _is_mine(name, fd):
            remove_tree(name, dir_fd=fd)
    finally:
        os.close(fd)
    if os.path.basename(above).startswith(HIDDEN_NAME):
        with contextlib.suppress(OSError):  # another run is using it, or has removed it
            os.rmdir(above)


def _make_private(hidden: str, run_id: str) -> bool:
    """Makes `hidden` and the run's directory in it; False if `hidden` is somebody else's."""
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkdir(hidden, 0o700)
        if not _is_mine(hidden) or os.path.islink(hidden):
            return False
        try:
            os.mkdir(os.path.join(hidden, run_id), 0o700)
        except FileExistsError:  # this run's, made for something else, or before it was killed
            return os.path.isdir(os.path.join(hidden, run_id))
        except FileNotFoundError:  # another run has just removed `hidden`, which was empty
            continue
        return True


def _is_mine(path: str, dir_fd: int | None = None) -> bool:
    try:
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_uid == os.geteuid()
    except FileNotFoundError:
        return False


def _is_overlay(found: Statx) -> bool:
    return any(mount.fstype == "overlay" for mount in read_mount_table() if mount.id == found.mnt_id)


def _open_directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
