"""Laying upper directories over one another without mounting them: one that says what two of them say.

`link_layer` makes a second copy of an upper directory whose files are the same inodes. `fold` brings into an upper
directory all of the layer below it that it does not hide, by renames. Both are for layers as jubako's boxes have them,
without redirects and metacopy (see `layers.flatten` for any others), that nobody writes to meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import stat

from jubako.layers.copy import copy_file, copy_folder_state
from jubako.layers.walk import Folder, open_top, walk
from jubako.layers.whiteout import is_overlay_attribute, is_whiteout, read_marks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["fold", "link_layer"]

_ORIGIN = frozenset(("trusted.overlay.origin", "user.overlay.origin"))


def link_layer(source: str, destination: str, *, copied: bool = False) -> tuple[str, ...]:
    """Makes `destination`, which must not exist, a layer that says what the upper directory `source` says.

    Its files are those of `source`: write to neither. Only on another mount they are copied; all are with `copied`.
    What copies must not have is left out of them, and told in words. HostError for redirects and, in copies, metacopy.
    """
    refused: list[str] = []
    os.mkdir(destination, 0o700)
    with open_top(source) as top:
        folders: list[tuple[str, str]] = []
        for folder in walk(top):
            if folder.fd is None:
                continue  # deeper than a path can say
            made = os.path.join(destination, folder.path) if folder.path else destination
            if folder.path:
                os.mkdir(made, 0o700)
            read_marks(folder.fd, os.path.join(source, folder.path))
            refused += _link_entries(folder, os.path.join(source, folder.path), made, copied=copied)
            folders.append((os.path.join(source, folder.path), made))
        for original, made in reversed(folders):
            for name in os.listxattr(original):
                if is_overlay_attribute(name) and name.endswith(".opaque"):
                    os.setxattr(made, name, os.getxattr(original, name))
            copy_folder_state(original, made)
    return tuple(refused)


def _link_entries(folder: Folder, where: str, made: str, *, copied: bool) -> Iterator[str]:
    assert folder.fd is not None
    for name, found in folder.entries:
        if stat.S_ISDIR(found.st_mode):
            continue
        if is_whiteout(found, name, folder.fd):
            os.mknod(f"{made}/{name}", stat.S_IFCHR | 0o600, 0)
            continue
        if not copied:
            try:
                os.link(f"{where}/{name}", f"{made}/{name}", follow_symlinks=False)
                continue
            except OSError:  # another mount, or too many links
                pass
        yield from copy_file(f"{where}/{name}", f"{made}/{name}")


def fold(upper: str, below: str, *, mark: str = "") -> None:
    """Makes `upper` say what it and the layer `below` it say together; what is left of `below` is of no use.

    `mark` is the attribute that makes a directory opaque which lies over something else than a directory. Overlayfs has
    set it already on what it has made; on layers made by other means it may be missing.
    """
    waiting = [""]
    while waiting:
        path = waiting.pop()
        above, under = (os.path.join(top, path) if path else top for top in (upper, below))
        with _opened_up(above) as above_fd, _opened_up(under) as under_fd:
            if read_marks(above_fd, above).opaque:
                continue
            _pass_on_opaque(under_fd, above_fd)
            for name in sorted(os.listdir(under_fd)):
                if _fold_entry(name, above_fd, under_fd, mark):
                    waiting.append(os.path.join(path, name))


def _fold_entry(name: str, above: int, under: int, mark: str) -> bool:
    """True for two directories, which are yet to be folded."""
    found = os.stat(name, dir_fd=under, follow_symlinks=False)
    try:
        hiding = os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(name, name, src_dir_fd=under, dst_dir_fd=above)
        return False
    same_type = stat.S_IFMT(found.st_mode) == stat.S_IFMT(hiding.st_mode)
    if same_type and not is_whiteout(found, name, under) and not _origins(f"/proc/self/fd/{under}/{name}"):
        # A copy of what the layer below had made itself is no copy of what is further below.
        path = f"/proc/self/fd/{above}/{name}"
        for origin in _origins(path):
            with _writable(path):
                os.removexattr(path, origin, follow_symlinks=False)
    if mark and stat.S_ISDIR(hiding.st_mode) and not same_type:
        os.setxattr(f"/proc/self/fd/{above}/{name}", mark, b"y")
    return same_type and stat.S_ISDIR(found.st_mode)


def _origins(path: str) -> list[str]:
    return [name for name in os.listxattr(path, follow_symlinks=False) if name in _ORIGIN]


def _pass_on_opaque(under: int, above: int) -> None:
    for name in os.listxattr(under):
        if is_overlay_attribute(name) and name.endswith(".opaque"):
            os.setxattr(above, name, os.getxattr(under, name))


@contextlib.contextmanager
def _opened_up(path: str) -> Iterator[int]:
    """A descriptor of a directory that its owner may change in the block; afterwards its mode and times are back."""
    found = os.lstat(path)
    os.chmod(path, stat.S_IMODE(found.st_mode) | 0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.fchmod(fd, stat.S_IMODE(found.st_mode))
        os.utime(fd, ns=(found.st_atime_ns, found.st_mtime_ns))
        os.close(fd)


@contextlib.contextmanager
def _writable(path: str) -> Iterator[None]:
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        yield
        return
    mode = stat.S_IMODE(found.st_mode)
    os.chmod(path, mode | 0o200)
    try:
        yield
    finally:
        os.chmod(path, mode)
