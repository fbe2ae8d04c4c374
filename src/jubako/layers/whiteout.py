"""How overlayfs writes down in an upper directory what cannot simply be there. See the kernel's overlayfs.rst.

    character device 0/0                          a whiteout: the name is deleted
    empty file with xattr overlay.whiteout        the same (Linux 6.7), in a directory whose overlay.opaque is "x"
    directory with xattr overlay.opaque "y"       opaque: nothing of the lower directory shows through
    xattr overlay.redirect, overlay.metacopy      content is found under another name, or in the lower file

The attributes are `trusted.overlay.*`, or `user.overlay.*` for an overlay mounted with userxattr. Who knows which it
was says so: without it, `user.overlay.*` is what a program in the box has set, and means nothing. Who does not know has
both read, since an upper may be looked at by another user than the one who mounted it. jubako mounts without redirects
and metacopy, so those are refused: leaving them out would publish an empty file.
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.errors import HostError
from jubako.records import record

__all__ = [
    "METACOPY",
    "ORIGIN",
    "Marks",
    "is_overlay_attribute",
    "is_whiteout",
    "may_lack_content",
    "metacopy_error",
    "read_file_marks",
    "read_folder_marks",
    "read_marks",
    "refuse_metacopy",
]

ORIGIN = frozenset(("user.overlay.origin", "trusted.overlay.origin"))  # on what began as a copy of a lower file
METACOPY = frozenset(("user.overlay.metacopy", "trusted.overlay.metacopy"))

_NAMESPACES = ("user.overlay.", "trusted.overlay.")
# More blocks than this hold data of their own: one block of 4 KiB for attributes is all a metacopy file has.
_ATTRIBUTE_BLOCKS = 8
_NAMESPACES_BY_USERXATTR = {None: _NAMESPACES, True: _NAMESPACES[:1], False: _NAMESPACES[1:]}


@record
class Marks:
    """What the attributes of an entry of an upper directory say."""

    opaque: bool = False  # of a directory: nothing of the lower directory shows through
    redirect: str = ""  # what the lower layers call it; absolute from the root of the overlay, or a name beside it
    metacopy: bool = False  # of a file: the content is the lower file's
    origin: bool = False  # it was copied up from a lower layer


def is_overlay_attribute(name: str) -> bool:
    """True for extended attributes that are overlayfs's own notes, or stand for such in a nested overlay."""
    return name.startswith(_NAMESPACES)


def is_whiteout(found: os.stat_result, name: str, dir_fd: int, *, userxattr: bool | None = None) -> bool:
    """True if the entry `name` of an upper directory says that the name is deleted.

    `userxattr`: whether the overlay was mounted with that; None: not known.
    """
    if stat.S_ISCHR(found.st_mode):
        return found.st_rdev == 0
    if not stat.S_ISREG(found.st_mode) or found.st_size:
        return False
    return "whiteout" in _read_file_marks(name, dir_fd, userxattr)


def read_marks(fd: int, path: str, *, userxattr: bool | None = None) -> Marks:
    """The marks of the upper directory `fd`; `path` is for the error. Raises HostError on a redirect."""
    marks = _overlay_names(fd, userxattr)
    if "redirect" in marks:
        raise HostError(
            f"{path} was renamed inside an overlay that was mounted with redirect_dir=on",
            hint="jubako mounts without it; was this upper directory made by something else?",
        )
    return Marks("opaque" in marks and _read(fd, marks["opaque"]) == b"y")


def read_folder_marks(fd: int) -> Marks:
    """All that the attributes of the directory `fd` say."""
    marks = _overlay_names(fd)
    return Marks(
        opaque="opaque" in marks and _read(fd, marks["opaque"]) == b"y",
        redirect=_read_redirect(fd, marks),
        origin="origin" in marks,
    )


def read_file_marks(name: str, dir_fd: int) -> Marks:
    """All that the attributes of the regular file `name` say."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    except PermissionError:
        return Marks()
    try:
        marks = _overlay_names(fd)
        return Marks(redirect=_read_redirect(fd, marks), metacopy="metacopy" in marks, origin="origin" in marks)
    finally:
        os.close(fd)


def refuse_metacopy(fd: int, path: str, *, userxattr: bool | None = None) -> None:
    """Raises HostError, which names `path`, if the file `fd` of an upper directory has its content elsewhere."""
    if "metacopy" in _overlay_names(fd, userxattr) and may_lack_content(fd):
        raise metacopy_error(path)


def may_lack_content(fd: int) -> bool:
    """True if a regular file has no more blocks than its attributes may take: any program can set the mark itself."""
    found = os.fstat(fd)
    return bool(found.st_size) and found.st_blocks <= _ATTRIBUTE_BLOCKS


def metacopy_error(path: str) -> HostError:
    """The error for a file whose content is in a lower directory."""
    return HostError(
        f"{path} has no content of its own: its overlay was mounted with metacopy=on",
        hint="jubako mounts without it; was this upper directory made by something else?",
    )


def _read_file_marks(name: str, dir_fd: int, userxattr: bool | None) -> dict[str, str]:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    except PermissionError:  # overlayfs would not have been able to read a mark there either
        return {}
    try:
        return _overlay_names(fd, userxattr)
    finally:
        os.close(fd)


def _overlay_names(fd: int, userxattr: bool | None = None) -> dict[str, str]:
    """The overlay attributes of a file: short name to full name."""
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
    prefixes = _NAMESPACES_BY_USERXATTR[userxattr]
    return {name[len(prefix) :]: name for name in names for prefix in prefixes if name.startswith(prefix)}


def _read_redirect(fd: int, marks: dict[str, str]) -> str:
    return os.fsdecode(_read(fd, marks["redirect"])) if "redirect" in marks else ""


def _read(fd: int, name: str) -> bytes:
    return os.getxattr(fd, name)
