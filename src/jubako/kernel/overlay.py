"""Overlay mounts. The layers and what is asked of them are one value; it is mounted by the new calls or the old one.

Options that distributions choose differently are always stated: no index, no metacopy, no xino, and no redirects, so
that an upper directory reads the same everywhere, as root and in a user namespace. The kernel's documentation of
overlayfs says what they mean, and that `volatile` gives up syncing (a plain unmount otherwise writes out the whole file
system of the upper directory).

The new calls (fsconfig with "lowerdir+", Linux 6.7) take up to 500 layers and say in words what they refuse. mount(2)
takes one page of options, in which paths are escaped.
"""

from __future__ import annotations

import errno
import os

from jubako.kernel.filesystems import SOURCE
from jubako.kernel.mounts import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MountError,
    attach,
    fsconfig_create,
    fsconfig_fd,
    fsconfig_flag,
    fsconfig_string,
    fsmount,
    fsopen,
    mount,
)
from jubako.kernel.namespaces import CLONE_NEWNS, unshare
from jubako.kernel.once import once
from jubako.kernel.syscalls import close
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.kernel.syscalls import Path

__all__ = ["Overlay", "format_options", "has_lowerdir_plus", "mount_overlay", "mount_overlay_classic", "open_overlay"]

_STATED = {"index": "off", "metacopy": "off", "xino": "off", "redirect_dir": "nofollow"}
_MS_OF_ATTRIBUTE = {
    MOUNT_ATTR_RDONLY: MS_RDONLY,
    MOUNT_ATTR_NOSUID: MS_NOSUID,
    MOUNT_ATTR_NODEV: MS_NODEV,
    MOUNT_ATTR_NOEXEC: MS_NOEXEC,
}
_YES, _NO = 10, 11  # statuses of a child
_PAGE_BYTES = 4096
_ESCAPES_IN_LIST = {ord(special): f"\\{special}" for special in "\\:,"}
_ESCAPES = {ord(special): f"\\{special}" for special in "\\,"}


@record
class Overlay:
    """An overlay to mount. Without `upper` and `work` it is read-only, and needs two lowers.

    `upper` and `work` (empty) are on one file system, neither inside the other. `userxattr` must be set in a user
    namespace, where overlayfs may keep its marks only in user.* attributes, and must not be set by root who wants to
    read the marks as trusted.*.
    """

    lowers: tuple[str | int, ...]  # the topmost first; a number is a descriptor of a directory (O_PATH will do)
    upper: str | int = ""
    work: str | int = ""
    userxattr: bool = False
    volatile: bool = False
    attributes: int = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    options: tuple[tuple[str, str], ...] = ()  # more of overlayfs's own, which go before those stated otherwise


def mount_overlay(overlay: Overlay, target: Path) -> None:
    """Mounts `overlay` on `target`, with mount(2) where the kernel cannot do it the new way."""
    if has_lowerdir_plus():
        attach(open_overlay(overlay), target)
    else:
        mount_overlay_classic(overlay, target)


def open_overlay(overlay: Overlay) -> int:
    """A descriptor of a detached mount of `overlay`. Raises MountError; its log says what the kernel disliked."""
    fd = fsopen("overlay")
    try:
        fsconfig_string(fd, "source", SOURCE)
        for lower in overlay.lowers:
            _set_layer(fd, "lowerdir+", lower)
        for key, value in _writable_options(overlay).items():
            _set_layer(fd, key, value)
        for key, value in _stated(overlay).items():
            fsconfig_string(fd, key, value)
        for flag in _flags(overlay):
            fsconfig_flag(fd, flag)
        fsconfig_create(fd)
        return fsmount(fd, overlay.attributes)
    finally:
        close(fd)


def mount_overlay_classic(overlay: Overlay, target: Path) -> None:
    """Mounts `overlay` on `target` with mount(2). E2BIG when its options do not fit the page the kernel reads."""
    options = format_options(overlay)
    if len(os.fsencode(options)) >= _PAGE_BYTES:
        raise MountError(errno.E2BIG, f"mount: {len(overlay.lowers)} layers do not fit a page", os.fsdecode(target))
    flags = sum(flag for attribute, flag in _MS_OF_ATTRIBUTE.items() if overlay.attributes & attribute)
    mount(SOURCE, target, "overlay", flags, options)


def format_options(overlay: Overlay) -> str:
    """The options of `overlay` as one string for mount(2), paths escaped."""
    lowers = ":".join(_path_of(lower).translate(_ESCAPES_IN_LIST) for lower in overlay.lowers)
    writable = [f"{key}={_path_of(value).translate(_ESCAPES)}" for key, value in _writable_options(overlay).items()]
    stated = [f"{key}={value}" for key, value in _stated(overlay).items()]
    return ",".join((f"lowerdir={lowers}", *writable, *stated, *_flags(overlay)))


@once
def has_lowerdir_plus() -> bool:
    """True if overlayfs takes its layers one by one. PermissionError for one who may not mount; asked once."""
    try:
        return _ask_for_lowerdir_plus()
    except PermissionError:  # in a user namespace, a process may mount in mount namespaces that this one owns
        from jubako.kernel.children import fork_child, wait_for  # 2 modules, for who is one

        def ask() -> int:
            try:
                unshare(CLONE_NEWNS)
                return _YES if _ask_for_lowerdir_plus() else _NO
            except OSError:
                return 1

        answer = wait_for(fork_child(ask))
        if answer not in (_YES, _NO):
            raise
        return answer == _YES


def _ask_for_lowerdir_plus() -> bool:
    try:
        fd = fsopen("overlay")
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return False
        raise
    try:
        fsconfig_string(fd, "lowerdir+", "/dev/null/none")
    except OSError as error:
        # Known, and looked up in vain. Unknown (6.5, 6.6): EINVAL. Before 6.5 it is collected unseen.
        return error.errno in (errno.ENOTDIR, errno.ENOENT)
    else:
        return False
    finally:
        close(fd)


def _set_layer(fd: int, key: str, layer: str | int) -> None:
    """Sets a layer by its path or its descriptor, which overlayfs takes since Linux 6.13."""
    if isinstance(layer, int):
        try:
            fsconfig_fd(fd, key, layer)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        else:
            return  # else the path, which also says what is wrong with the directory if it is that
    path = _path_of(layer)
    # Unlike lowerdir+, the kernel unescapes the other two, as it did for mount(2).
    fsconfig_string(fd, key, path if key == "lowerdir+" else path.replace("\\", "\\\\"))


def _path_of(layer: str | int) -> str:
    return os.readlink(f"/proc/self/fd/{layer}") if isinstance(layer, int) else layer


def _stated(overlay: Overlay) -> dict[str, str]:
    return {**_STATED, **dict(overlay.options)}


def _writable_options(overlay: Overlay) -> dict[str, str | int]:
    return {"upperdir": overlay.upper, "workdir": overlay.work} if overlay.upper != "" else {}


def _flags(overlay: Overlay) -> list[str]:
    return [name for name, wanted in (("userxattr", overlay.userxattr), ("volatile", overlay.volatile)) if wanted]
