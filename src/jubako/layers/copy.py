"""Copying files and trees with what belongs to them, and cleaning what must not leave a box.

Kept: content with its holes, mode, modification time, owner where permitted, `user.*` attributes, ACLs, and hard links
within one copied tree. Never let out: setuid and setgid bits of files, file capabilities and overlayfs's own attributes
are taken off; device nodes, sockets and named pipes are left out. Each of those is answered in words. A setgid bit of a
directory stays: it hands out no privilege, and shared folders need it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from jubako.layers.attributes import CAPABILITY, is_kept_attribute, read_names
from jubako.layers.entry import type_of
from jubako.layers.remove import remove_tree
from jubako.layers.walk import Folder, open_top, walk
from jubako.layers.whiteout import METACOPY, is_overlay_attribute, may_lack_content, metacopy_error
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "copy_directory_state",
    "copy_entry",
    "copy_file",
    "copy_folder_state",
    "copy_parts",
    "copy_tree",
    "open_to_read",
    "sanitize_tree",
]

_CHUNK = 8 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVILEGE_BITS = stat.S_ISUID | stat.S_ISGID
_ORDINARY = (stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK)
# copy_file_range(2): two file systems, a file system or a kind of file that has no such thing
_NO_COPY_RANGE = frozenset((errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM))


def copy_file(source: str, destination: str, *, shown: str = "", keep_owner: bool = True) -> tuple[str, ...]:
    """Copies a file or a symbolic link to `destination`, which must not exist; what was refused, in words.

    `shown` is how to call the source in words. Without `keep_owner`, owner and group are those of anything
    made there. After an exception `destination` may be there, incomplete.
    """
    refused: list[str] = []
    found = os.lstat(source)
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISLNK(found.st_mode):
        return (_left_out(shown or source, found),)
    _copy_entry((source, None), (destination, None), found, shown or source, refused, keep_owner=keep_owner)
    return tuple(refused)


def copy_tree(source: str, destination: str, *, shown: str = "", keep_owner: bool = True) -> tuple[str, ...]:
    """Copies a directory with all below it to `destination`, which must not exist; what was refused, in words.

    `shown` is how to call the source in words. Without `keep_owner`, owner and group are those of anything
    made there. After an exception part of `destination` may be there.
    """
    os.mkdir(destination, 0o700)
    with open_top(source) as source_fd, open_top(destination) as destination_fd:
        copy = _TreeCopy(destination_fd, shown or source, keep_owner=keep_owner)
        for folder in walk(source_fd):
            copy.copy(folder)
        copy.finish()
    return tuple(copy.refused)


def copy_parts(state: str, content: str, destination: str, *, shown: str) -> tuple[str, ...]:
    """Copies the bytes of the file `content`, and all else of the file `state`, to `destination`, which must not exist;
    what was refused, in words. For a file of which an upper directory has all but the bytes (metacopy)."""
    refused: list[str] = []
    found = os.lstat(state)
    with open_to_read(state, None, found) as state_fd, open_to_read(content, None, os.lstat(content)) as content_fd:
        destination_fd = os.open(destination, _WRITE, 0o600)
        try:
            _copy_content(content_fd, destination_fd, os.fstat(content_fd).st_size)
            mode = stat.S_IMODE(found.st_mode)
            if mode & _PRIVILEGE_BITS:
                mode &= ~_PRIVILEGE_BITS
                refused.append(f"{shown}: setuid or setgid bit left out")
            names = [name for name in read_names(state_fd) if name not in METACOPY]
            kept = _read_kept(state_fd, names, shown, refused)
            _write_state(destination_fd, _State(found, mode, kept, keep_owner=True), shown, refused)
        finally:
            os.close(destination_fd)
    return tuple(refused)


def copy_folder_state(source: str, destination: str) -> None:
    """Gives the directory `destination` the mode, owner where permitted, attributes and times of another, `source`.

    Overlayfs's marks stay as they are. What a file system cannot keep is left out.
    """
    fds = []
    try:
        for path in (source, destination):
            fds.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
        copy_directory_state(fds[0], fds[1], destination)
    finally:
        for fd in fds:
            os.close(fd)


def sanitize_tree(path: str, *, shown: str = "") -> tuple[str, ...]:
    """Takes from a file or a tree, in place, what must not be published; what that was, in words.

    Nobody else may be writing there any more. What `path` names is itself removed if it is a device, socket or pipe;
    a directory too deep to be named is removed with what it holds. Repeatable. `shown` is how to call `path` in words.
    """
    shown = shown or path
    found = os.lstat(path)
    refused: list[str] = []
    if not stat.S_ISDIR(found.st_mode):
        _sanitize_entry(path, None, found, shown, refused)
        return tuple(refused)
    with open_top(path) as top:
        too_deep = []
        for folder in walk(top):
            name = f"{shown}/{folder.path}" if folder.path else shown
            if folder.fd is None:
                too_deep.append(folder.path)
                refused.append(f"{name[:200]}...: deeper than a path can say, removed")
                continue
            _strip_attributes(folder.fd, name, refused)
            if folder.state.st_mode & stat.S_ISUID:
                os.fchmod(folder.fd, stat.S_IMODE(folder.state.st_mode) & ~stat.S_ISUID)
                refused.append(f"{name}: setuid bit taken off")
            for entry, state in folder.entries:
                if not stat.S_ISDIR(state.st_mode):
                    _sanitize_entry(entry, folder.fd, state, f"{shown}/{folder.below(entry)}", refused)
        for deep in too_deep:
            _remove_deep(top, deep)
    return tuple(refused)


def copy_entry(
    source: tuple[str, int], destination: tuple[str, int], found: os.stat_result, shown: str, *, keep_owner: bool = True
) -> tuple[str, ...]:
    """As `copy_file`, for a name in a directory that is open, each; `found` is the source's state."""
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISLNK(found.st_mode):
        return (_left_out(shown, found),)
    refused: list[str] = []
    _copy_entry(source, destination, found, shown, refused, keep_owner=keep_owner)
    return tuple(refused)


def copy_directory_state(source: int, destination: int, shown: str, *, keep_owner: bool = True) -> tuple[str, ...]:
    """Gives an open directory the mode, owner, attributes and times of another; what was refused, in words."""
    refused: list[str] = []
    found = os.fstat(source)
    if found.st_mode & stat.S_ISUID:
        refused.append(f"{shown}: setuid bit left out")
    kept = _read_kept(source, read_names(source), shown, refused)
    _write_state(
        destination, _State(found, stat.S_IMODE(found.st_mode) & ~stat.S_ISUID, kept, keep_owner), shown, refused
    )
    return tuple(refused)


class _TreeCopy:
    """A tree being copied. Directories get their mode, owner and time when everything is in them."""

    def __init__(self, destination: int, shown: str, *, keep_owner: bool) -> None:
        self.refused: list[str] = []
        self._destination = destination
        self._shown = shown
        self._keep_owner = keep_owner
        self._links: dict[tuple[int, int], str] = {}
        self._folders: list[tuple[str, os.stat_result, dict[str, bytes]]] = []

    def copy(self, folder: Folder) -> None:
        name = f"{self._shown}/{folder.path}" if folder.path else self._shown
        if folder.fd is None:
            self.refused.append(f"{name[:200]}...: deeper than a path can say, left out")
            return
        if folder.path:
            os.mkdir(folder.path, 0o700, dir_fd=self._destination)
        self._folders.append(
            (folder.path or ".", folder.state, _read_kept(folder.fd, read_names(folder.fd), name, self.refused))
        )
        for entry, found in folder.entries:
            path = folder.below(entry)
            if stat.S_ISDIR(found.st_mode):
                continue
            if not any(is_kind(found.st_mode) for is_kind in _ORDINARY):
                self.refused.append(_left_out(f"{self._shown}/{path}", found))
            elif found.st_nlink > 1 and (found.st_dev, found.st_ino) in self._links:
                first = self._links[found.st_dev, found.st_ino]
                os.link(
                    first,
                    path,
                    src_dir_fd=self._destination,
                    dst_dir_fd=self._destination,
                    follow_symlinks=False,
                )
            else:
                target = (path, self._destination)
                shown = f"{self._shown}/{path}"
                _copy_entry((entry, folder.fd), target, found, shown, self.refused, keep_owner=self._keep_owner)
                self._links[found.st_dev, found.st_ino] = path

    def finish(self) -> None:
        for path, found, kept in reversed(self._folders):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._destination)
            try:
                name = self._shown if path == "." else f"{self._shown}/{path}"
                if found.st_mode & stat.S_ISUID:
                    self.refused.append(f"{name}: setuid bit left out")
                state = _State(found, stat.S_IMODE(found.st_mode) & ~stat.S_ISUID, kept, self._keep_owner)
                _write_state(fd, state, name, self.refused)
            finally:
                os.close(fd)


_Where = tuple[str, int | None]  # a path and the descriptor of the directory it is relative to


def _copy_entry(
    source: _Where, destination: _Where, found: os.stat_result, shown: str, refused: list[str], *, keep_owner: bool
) -> None:
    """Copies one file or symbolic link."""
    if stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(source[0], dir_fd=source[1]), destination[0], dir_fd=destination[1])
        if keep_owner:
            with contextlib.suppress(PermissionError):
                os.chown(destination[0], found.st_uid, found.st_gid, dir_fd=destination[1], follow_symlinks=False)
        times = (found.st_atime_ns, found.st_mtime_ns)
        os.utime(destination[0], ns=times, dir_fd=destination[1], follow_symlinks=False)
        return
    with open_to_read(*source, found) as source_fd:
        destination_fd = os.open(destination[0], _WRITE, 0o600, dir_fd=destination[1])
        try:
            _copy_content(source_fd, destination_fd, os.fstat(source_fd).st_size)
            mode = stat.S_IMODE(found.st_mode)
            if mode & _PRIVILEGE_BITS:
                mode &= ~_PRIVILEGE_BITS
                refused.append(f"{shown}: setuid or setgid bit left out")
            kept = _read_kept(source_fd, read_names(source_fd), shown, refused)
            _write_state(destination_fd, _State(found, mode, kept, keep_owner), shown, refused)
        finally:
            os.close(destination_fd)


@contextlib.contextmanager
def open_to_read(path: str, dir_fd: int | None, found: os.stat_result) -> Iterator[int]:
    """A descriptor to read a file with, also where its owner may not: the mode is put back at once."""
    try:
        fd = os.open(path, _READ, dir_fd=dir_fd)
    except PermissionError:
        if found.st_uid != os.geteuid():
            raise
        mode = stat.S_IMODE(found.st_mode)
        os.chmod(path, mode | 0o400, dir_fd=dir_fd)
        try:
            fd = os.open(path, _READ, dir_fd=dir_fd)
        finally:
            os.chmod(path, mode, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def _copy_content(source: int, destination: int, size: int) -> None:
    """Copies the bytes and leaves the holes. The file systems share the blocks where they can (copy_file_range)."""
    os.ftruncate(destination, size)
    offset = 0
    while offset < size:
        try:
            start = os.lseek(source, offset, os.SEEK_DATA)
            end = os.lseek(source, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            if error.errno != errno.EINVAL:  # no such thing here: all is data
                raise
            start, end = offset, size
        _copy_range(source, destination, start, end)
        offset = end


def _copy_range(source: int, destination: int, start: int, end: int) -> None:
    while start < end:
        try:
            copied = os.copy_file_range(source, destination, min(end - start, _CHUNK), start, start)
        except OSError as error:
            if error.errno not in _NO_COPY_RANGE:
                raise
            copied = os.pwrite(destination, os.pread(source, min(end - start, _CHUNK), start), start)
        if not copied:  # truncated while we read
            return
        start += copied


def _read_kept(fd: int, names: Sequence[str], shown: str, refused: list[str]) -> dict[str, bytes]:
    kept = {}
    for name in names:
        if is_kept_attribute(name):
            kept[name] = os.getxattr(fd, name)
        elif name == CAPABILITY:
            refused.append(f"{shown}: file capabilities left out")
        elif name in METACOPY and may_lack_content(fd):
            raise metacopy_error(shown)
    return kept


@record
class _State:
    """What a copy gets beside its content: owner and times as `found` has them, this mode, and these attributes."""

    found: os.stat_result
    mode: int
    kept: dict[str, bytes]
    keep_owner: bool


def _write_state(fd: int, state: _State, shown: str, refused: list[str]) -> None:
    """User attributes while the file is still writable, the owner, which clears bits of the mode, the mode, the ACLs,
    which refine it, and the time last."""
    found = state.found
    acls = {name: value for name, value in state.kept.items() if not name.startswith("user.")}
    _write_attributes(fd, {name: state.kept[name] for name in state.kept if name not in acls}, shown, refused)
    if state.keep_owner:
        with contextlib.suppress(PermissionError):
            os.fchown(fd, found.st_uid, found.st_gid)
    os.fchmod(fd, state.mode)
    _write_attributes(fd, acls, shown, refused)
    os.utime(fd, ns=(found.st_atime_ns, found.st_mtime_ns))


def _write_attributes(fd: int, attributes: dict[str, bytes], shown: str, refused: list[str]) -> None:
    for name, value in attributes.items():
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENOSPC, errno.E2BIG):
                raise
            refused.append(f"{shown}: attribute {name} cannot be kept there ({error.strerror})")


def _sanitize_entry(path: str, dir_fd: int | None, found: os.stat_result, shown: str, refused: list[str]) -> None:
    if not any(is_kind(found.st_mode) for is_kind in _ORDINARY):
        os.unlink(path, dir_fd=dir_fd)
        refused.append(_left_out(shown, found))
        return
    if not stat.S_ISREG(found.st_mode):
        return
    with open_to_read(path, dir_fd, found) as fd:
        _strip_attributes(fd, shown, refused)
        if found.st_mode & _PRIVILEGE_BITS:
            os.fchmod(fd, stat.S_IMODE(found.st_mode) & ~_PRIVILEGE_BITS)
            refused.append(f"{shown}: setuid or setgid bit taken off")


def _strip_attributes(fd: int, shown: str, refused: list[str]) -> None:
    for name in read_names(fd):
        if name == CAPABILITY:
            os.removexattr(fd, name)
            refused.append(f"{shown}: file capabilities taken off")
        elif is_overlay_attribute(name):
            _remove_attribute(fd, name)


def _remove_attribute(fd: int, name: str) -> None:
    try:
        os.removexattr(fd, name)
    except PermissionError:  # `user.*` of a file that is read-only for its owner
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        os.fchmod(fd, mode | 0o200)
        try:
            os.removexattr(fd, name)
        finally:
            os.fchmod(fd, mode)


def _remove_deep(top: int, path: str) -> None:
    """Removes the innermost part of `path` that a call can be given: an ancestor is named, what it holds is deep."""
    above, _, name = path.rpartition("/")
    fd = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        remove_tree(name, dir_fd=fd)
    finally:
        os.close(fd)


def _left_out(shown: str, found: os.stat_result) -> str:
    names = {"fifo": "named pipe", "character": "device", "block": "device"}
    type_ = type_of(found.st_mode)
    return f"{shown}: a {names.get(type_, type_)}, left out"
