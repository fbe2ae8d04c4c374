"""What the descriptor of a namespace says of it: its number, its kind, its parent and its owner. See ioctl_ns(2)."""

from __future__ import annotations

import fcntl
import os

from jubako.kernel.syscalls import fail

__all__ = ["namespace_number", "open_owner", "open_parent", "open_socket_namespace"]

_NS_GET_USERNS = 0xB701
_NS_GET_PARENT = 0xB702
_SIOCGSKNS = 0x894C


def namespace_number(fd: int) -> int:
    """The number by which /proc and all tools call the namespace: the inode of its file."""
    return os.fstat(fd).st_ino


def open_owner(fd: int) -> int:
    """A descriptor of the user namespace that owns this one. EPERM if it is no descendant of the caller's own."""
    return _ioctl(fd, _NS_GET_USERNS, "NS_GET_USERNS")


def open_parent(fd: int) -> int:
    """A descriptor of the parent of a user or pid namespace. EPERM as `open_owner`, EINVAL for other kinds."""
    return _ioctl(fd, _NS_GET_PARENT, "NS_GET_PARENT")


def open_socket_namespace(fd: int) -> int:
    """A descriptor of the network namespace that the socket `fd` belongs to."""
    return _ioctl(fd, _SIOCGSKNS, "SIOCGSKNS")


def _ioctl(fd: int, request: int, name: str) -> int:
    try:
        return fcntl.ioctl(fd, request)
    except OSError as error:
        fail(error.errno or 0, f"ioctl {name}")
