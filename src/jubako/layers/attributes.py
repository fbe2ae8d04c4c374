"""Extended attributes that belong to a file's meaning: which are compared, kept, and never let out of a box.

Kept: the user's own (`user.*`) and POSIX ACLs. Not kept: overlayfs's notes, labels that a security module assigns by
its own policy (`security.selinux` ...), and file capabilities, which hand out privilege and are refused by name.
"""

from __future__ import annotations

import errno
import os

from jubako.layers.whiteout import is_overlay_attribute

__all__ = ["CAPABILITY", "is_kept_attribute", "read_attributes", "read_names"]

CAPABILITY = "security.capability"
_ACLS = frozenset(("system.posix_acl_access", "system.posix_acl_default"))


def is_kept_attribute(name: str) -> bool:
    """True for attributes that are copied, and whose difference is a change."""
    return name in _ACLS or (name.startswith("user.") and not is_overlay_attribute(name))


def read_names(fd: int) -> list[str]:
    """The names of a file's extended attributes; none where the file system has no such thing."""
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def read_attributes(fd: int) -> dict[str, bytes]:
    """The attributes that count as part of the file, file capabilities included."""
    return {name: os.getxattr(fd, name) for name in read_names(fd) if name == CAPABILITY or is_kept_attribute(name)}
