"""Landlock, by which a process gives up for itself and all it starts what it could reach; see landlock(7).

Only one thing is asked of it here: Unix sockets without a path, which no view can hide and which every process of a
network namespace can connect to.
"""

from __future__ import annotations

import errno
import struct

from jubako.kernel.once import once
from jubako.kernel.syscalls import call, close

__all__ = ["landlock_abi", "scope_abstract_sockets"]

_CREATE_RULESET_VERSION = 1
_SCOPE_ABSTRACT_UNIX_SOCKET = 1
_ABI_OF_SCOPES = 6  # Linux 6.12
_RULESET = struct.Struct("=QQQ")  # handled accesses to files, and to the network; scopes


@once
def landlock_abi() -> int:
    """The version this kernel speaks; 0 where it has none, or it was not switched on at boot."""
    try:
        return call("landlock_create_ruleset", None, 0, _CREATE_RULESET_VERSION)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):  # EPERM: a container's filter
            raise
        return 0


def scope_abstract_sockets() -> bool:
    """Closes abstract Unix sockets to this thread and all it will start, but for those that they make themselves.

    Needs no_new_privs. False where the kernel cannot, and then nothing has changed.
    """
    if landlock_abi() < _ABI_OF_SCOPES:
        return False
    ruleset = _RULESET.pack(0, 0, _SCOPE_ABSTRACT_UNIX_SOCKET)
    fd = call("landlock_create_ruleset", ruleset, len(ruleset), 0)
    try:
        call("landlock_restrict_self", fd, 0)
    finally:
        close(fd)
    return True
