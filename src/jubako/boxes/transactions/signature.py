"""Signatures: what a file, a symbolic link or a directory was when it was last looked at.

Two equal signatures mean "nobody has replaced or edited it". The change time is not part of one: a rename, which is
how things are published, changes it. Neither is the modification time of a directory, which XFS changes when the
directory is exchanged with another one; instead the signature of a directory covers everything below it (names,
inodes, sizes, modification times), since replacing a directory replaces all of that.

What it cannot see: a change of mode or owner alone, and writes through a mapping to a page that was dirty already.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time

from jubako.layers.change import EntryType
from jubako.layers.entry import LETTERS, type_of
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    Look: TypeAlias = Callable[[str, Sequence[tuple[str, os.stat_result]]], None]

__all__ = [
    "Signature",
    "decode_signature",
    "describe_change",
    "signature_of",
    "take_signature",
    "without_device",
]

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RACES_BORNE = 8
_WORDS: dict[EntryType, str] = {
    "directory": "a directory",
    "symlink": "a symbolic link",
    "fifo": "a named pipe",
    "socket": "a socket",
    "character": "a device",
    "block": "a device",
}
_TYPE_OF_LETTER = {letter: type_ for type_, letter in LETTERS.items()}


@record
class Signature:
    """What one directory entry was. `size` and `mtime_ns` are 0 for a directory, `tree` is "" for anything else."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    type: EntryType
    tree: str = ""  # digest of all entries below a directory

    def describe(self) -> str:
        """For messages: "a file of 340 bytes, modified 2010-01-02 03:04:05.678901234 UTC"."""
        if self.type == "file":
            return f"a file of {self.size} bytes, modified {_format_time(self.mtime_ns)}"
        return _WORDS[self.type]


def describe_change(was: Signature | None, now: Signature | None) -> str:
    """What has become of a path, in words that name both versions; the two differ. "there was nothing, and now ..."."""
    if was is None:
        return f"there was nothing, and now there is {'nothing' if now is None else now.describe()}"
    if now is None:
        return f"it was {was.describe()}, and now there is nothing"
    if was.type is not now.type:
        return f"it was {was.describe()}, and now it is {now.describe()}"
    is_same = was.inode == now.inode
    if was.type == "file":
        size_and_time = f"{now.size} bytes, modified {_format_time(now.mtime_ns)}"
        change = f"the same file has {size_and_time}" if is_same else f"it is another file of {size_and_time}"
    else:
        change = "what it holds is not the same" if is_same else "it is another one"
    return f"it was {was.describe()}, and now {change}"


def take_signature(path: str, *, dir_fd: int | None = None, look: Look | None = None) -> Signature | None:
    """The signature of what `path` names, a symbolic link itself included; None if there is nothing.

    Cost: one lstat, and for a directory one more per entry below it, of all of which `look` is told: the directory,
    relative to `path` ("." is that itself), and names with states. Raises OSError where it cannot be looked at.
    """
    for _ in range(_RACES_BORNE):
        try:
            found = os.lstat(path) if dir_fd is None else os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISDIR(found.st_mode):
            return signature_of(found)
        tree = _digest_tree(path, dir_fd, found.st_ino, look)
        if tree:
            return Signature(found.st_dev, found.st_ino, 0, 0, "directory", tree)
    raise OSError(errno.EAGAIN, f"{os.fsdecode(path)} is being replaced all the time")


def signature_of(found: os.stat_result) -> Signature:
    """The signature of an entry with this state, which is no directory."""
    return Signature(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, type_of(found.st_mode))


def without_device(signature: Signature | None) -> Signature | None:
    """`signature` with device 0, to compare across a remount: device numbers of btrfs, tmpfs and overlays change."""
    return None if signature is None else replace(signature, device=0)


def decode_signature(value: Sequence[int | str] | None) -> Signature | None:
    """The signature of these values: device, inode, size, mtime_ns, letter of the type, tree."""
    if value is None:
        return None
    device, inode, size, mtime_ns, letter, tree = value
    return Signature(int(device), int(inode), int(size), int(mtime_ns), _TYPE_OF_LETTER[str(letter)], str(tree))


def _digest_tree(path: str, dir_fd: int | None, inode: int, look: Look | None) -> str:
    """The digest of all entries below the directory `inode`; "" if `path` is another directory, or none, by now.

    Walks with a list instead of recursion and paths relative to the top, so that depth costs no descriptors.
    """
    try:
        top = os.open(path, _OPEN_DIRECTORY, dir_fd=dir_fd)
    except PermissionError:
        return "unreadable"
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return ""
    try:
        if os.fstat(top).st_ino != inode:
            return ""
        digest = hashlib.blake2b(digest_size=16)
        waiting = ["."]
        while waiting:
            folder = waiting.pop()
            for name, line, is_folder in _read_folder(top, folder, look):
                digest.update(line)
                if is_folder:
                    waiting.append(f"{folder}/{name}")
            digest.update(b"\0\0")
        return digest.hexdigest()
    finally:
        os.close(top)


def _read_folder(top: int, folder: str, look: Look | None) -> list[tuple[str, bytes, bool]]:
    """The entries of one directory, sorted by name: name, its part of the digest, whether it is a directory."""
    try:
        fd = os.open(folder, _OPEN_DIRECTORY, dir_fd=top)
    except OSError as error:
        # Unreadable, deeper than a path can say, or gone since: such a directory is known by its inode alone.
        if error.errno not in (errno.EACCES, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return []
    try:
        entries = []
        states: list[tuple[str, os.stat_result]] = []
        for name in sorted(os.listdir(fd)):
            try:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:  # removed since it was listed
                continue
            mode = stat.S_IFMT(found.st_mode)
            is_folder = mode == stat.S_IFDIR
            size, mtime_ns = (0, 0) if is_folder else (found.st_size, found.st_mtime_ns)
            facts = f"\0{found.st_ino} {mode} {size} {mtime_ns}\0"
            entries.append((name, os.fsencode(f"{name}{facts}"), is_folder))
            states.append((name, found))
        if look is not None:
            look(folder, states)
        return entries
    finally:
        os.close(fd)


def _format_time(time_ns: int) -> str:
    """All the digits there are: two versions of a file are often made within a second."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    try:
        day = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
    except (OverflowError, OSError):  # the year does not fit an int; some file systems keep such times
        return f"{seconds} seconds after 1970"
    return f"{day}.{nanoseconds:09} UTC"
