"""User namespaces that nobody lives in, made for the id maps that they hold. See user_namespaces(7)."""

from __future__ import annotations

import errno
import os

from jubako.kernel.children import fork_child, wait_for
from jubako.kernel.idmap import forbid_user_namespaces, write_id_map
from jubako.kernel.namespaces import CLONE_NEWUSER, open_namespace, unshare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from jubako.kernel.idmap import IdRange

__all__ = ["open_user_namespace"]

_WORD_BYTES = 32


def open_user_namespace(uids: Iterable[IdRange], gids: Iterable[IdRange], *, nests: bool = True) -> int:
    """A descriptor (close-on-exec) of a new user namespace with these maps; it lasts as long as something holds it.

    If not `nests`, none can be made in it, where /proc/sys lets that be said.

    For single-threaded processes, in any pid namespace; /proc may be an outer one's. OSError names the call: EPERM
    without CAP_SETUID and CAP_SETGID over the ids, ENOSPC beyond /proc/sys/user/max_user_namespaces.
    """
    heard, told = os.pipe()
    looked, seen = os.pipe()
    try:
        child = fork_child(lambda: _enter(told, looked, (heard, seen)))
    except BaseException:
        os.close(heard)
        os.close(seen)
        raise
    finally:
        os.close(told)
        os.close(looked)
    try:
        word = os.read(heard, _WORD_BYTES).decode()
        if not word.isdecimal():
            code = int(word.removeprefix("-") or errno.ECHILD)
            raise OSError(code, f"unshare: {os.strerror(code)}")
        write_id_map("uid", uids, word)
        write_id_map("gid", gids, word)
        if not nests:
            os.write(seen, b".")
            os.read(heard, 1)
        return open_namespace("user", word)
    finally:
        os.close(heard)
        os.close(seen)  # the child's end
        wait_for(child)


def _enter(told: int, looked: int, theirs: tuple[int, ...]) -> int:
    """The life of the process that makes it: says by which number /proc knows it, and waits until it was looked at."""
    for fd in theirs:
        os.close(fd)
    try:
        unshare(CLONE_NEWUSER)
        word = os.readlink("/proc/self")
    except OSError as error:
        os.write(told, f"-{error.errno}".encode())
        return 1
    os.write(told, word.encode())
    if os.read(looked, 1):
        forbid_user_namespaces()
        os.write(told, b".")
        os.read(looked, 1)
    return 0
