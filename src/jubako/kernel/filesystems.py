"""New instances of the kernel's small file systems, each as a detached mount held by a descriptor.

`mounts.attach` puts one in its place. Needs Linux 5.2, and the right to mount in the current user namespace.
"""

from __future__ import annotations

import os

from jubako.kernel.mounts import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    fsconfig_create,
    fsconfig_flag,
    fsconfig_string,
    fsmount,
    fsopen,
)

__all__ = ["SOURCE", "devpts", "make_filesystem", "proc", "tmpfs"]

SOURCE = "jubako"  # what the mount table shows in its source column, so that a mount of ours is known as one


def tmpfs(
    *,
    size_bytes: int | None = None,
    mode: int = 0o755,
    attributes: int = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
) -> int:
    """A descriptor of a new, empty, detached tmpfs that holds at most `size_bytes` (None: half of the memory).

    Its root has `mode` and belongs to the caller.
    """
    options = {"mode": f"{mode:o}"}
    if size_bytes is not None:
        options["size"] = str(size_bytes)
    return make_filesystem("tmpfs", options, attributes=attributes)


def proc() -> int:
    """A descriptor of a detached proc of the caller's pid namespace (that of its children after CLONE_NEWPID: not yet).

    In a user namespace EPERM unless the caller owns the pid namespace and sees a whole proc elsewhere.
    """
    return make_filesystem("proc", attributes=MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)


def devpts() -> int:
    """A descriptor of a detached devpts with terminals of its own; its "ptmx" may be opened by everybody."""
    options = {"ptmxmode": "0666", "mode": "620"}
    return make_filesystem("devpts", options, attributes=MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)


def make_filesystem(
    fstype: str, options: dict[str, str] | None = None, *, flags: tuple[str, ...] = (), attributes: int = 0
) -> int:
    """A descriptor of a detached mount of a new `fstype` with these options, set in their order, and flags."""
    fd = fsopen(fstype)
    try:
        fsconfig_string(fd, "source", SOURCE)
        for key, value in (options or {}).items():
            fsconfig_string(fd, key, value)
        for flag in flags:
            fsconfig_flag(fd, flag)
        fsconfig_create(fd)
        return fsmount(fd, attributes)
    finally:
        os.close(fd)
