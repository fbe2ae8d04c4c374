"""What a box is made of, tried for real in a child: namespaces, a tmpfs, an overlay with all its marks, a proc.

Asking the kernel beats reading its version or its settings: security modules, containers and distributions change what
is allowed in ways that only show when it is done. The child has mount and pid namespaces of its own (and as an
ordinary user a user namespace); whatever it made ends with it. It tells its parent step by step how far it came.
"""

from __future__ import annotations

import errno
import marshal
import os
import stat
from enum import Enum

from jubako.kernel.children import fork_child, wait_for
from jubako.kernel.filesystems import proc, tmpfs
from jubako.kernel.idmap import write_self_map
from jubako.kernel.mounts import MOUNT_ATTR_RDONLY, MS_PRIVATE, MS_REC, attach, mount, mount_setattr
from jubako.kernel.namespaces import CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, unshare
from jubako.kernel.overlay import Overlay, has_lowerdir_plus, mount_overlay
from jubako.kernel.syscalls import AT_FDCWD, AT_RECURSIVE
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO

__all__ = ["Step", "Trial", "try_box"]

_PLACES = ("/tmp", "/var/tmp", "/mnt", "/usr")  # any directory that exists; it is covered in the child only


class Step(Enum):
    """What is tried, in this order; the value is what it is called in sentences."""

    USER_NAMESPACE = "making a user namespace"
    ID_MAP = "mapping the own user id"
    NAMESPACES = "making mount and pid namespaces"
    PROPAGATION = "making mounts private"
    READ_ONLY = "making everything read-only"
    TMPFS = "mounting a tmpfs"
    OVERLAY = "mounting an overlay"
    WHITEOUT = "deleting a file in an overlay"
    OPAQUE = "replacing a directory in an overlay"
    PROC = "mounting proc"


@record
class Trial:
    """How it went. `failed` is None when everything worked, else the step and what the system said."""

    with_user_namespace: bool
    failed: Step | None = None
    error_number: int = 0
    error: str = ""
    has_lowerdir_plus: bool = False


def try_box(*, with_user_namespace: bool) -> Trial:
    """Makes the parts of a box in a child, with a user namespace or (as root) without, and says how far it came.

    Takes a few milliseconds and leaves nothing. The caller should be single-threaded, as for any fork.
    """
    read_end, write_end = os.pipe()
    try:
        pid = fork_child(lambda: _try_in_child(write_end, with_user_namespace))
    finally:
        os.close(write_end)
    with open(read_end, "rb") as pipe:
        reports = list(_read_reports(pipe))
    wait_for(pid)
    return _judge(reports, with_user_namespace)


def _read_reports(pipe: BinaryIO) -> Iterator[dict[str, Any]]:
    while True:
        try:
            yield marshal.load(pipe)
        except EOFError:
            return


def _judge(reports: list[dict[str, Any]], with_user_namespace: bool) -> Trial:
    end = reports[-1] if reports else {}
    if "done" in end:
        return Trial(with_user_namespace, has_lowerdir_plus=end["done"])
    if "error" in end:
        return Trial(with_user_namespace, Step(reports[-2]["step"]), end["number"], end["error"])
    step = Step(end["step"]) if end else Step.USER_NAMESPACE
    return Trial(with_user_namespace, step, 0, "the child that tried it was killed")


def _try_in_child(pipe: int, with_user_namespace: bool) -> int:
    def report(**facts: object) -> None:
        os.write(pipe, marshal.dumps(facts))

    def attempt(step: Step, act: Callable[[], None]) -> None:
        report(step=step.value)
        act()

    def as_first_process() -> int:
        return guarded(lambda: _try_mounts(attempt, report))

    def guarded(act: Callable[[], None]) -> int:
        try:
            act()
        except OSError as error:
            what = error.strerror or str(error)
            report(error=f"{what}: {error.filename}" if error.filename else what, number=error.errno or 0)
            return 1
        return 0

    def try_namespaces() -> None:
        uid, gid = os.geteuid(), os.getegid()
        if with_user_namespace:
            attempt(Step.USER_NAMESPACE, lambda: unshare(CLONE_NEWUSER))
            attempt(Step.ID_MAP, lambda: write_self_map(uid, gid))
        attempt(Step.NAMESPACES, lambda: unshare(CLONE_NEWNS | CLONE_NEWPID))
        wait_for(fork_child(as_first_process))

    return guarded(try_namespaces)


def _try_mounts(attempt: Callable[[Step, Callable[[], None]], None], report: Callable[..., None]) -> None:
    place = next((place for place in _PLACES if os.path.isdir(place)), None)
    if place is None:
        raise FileNotFoundError(errno.ENOENT, "no directory to try a mount on", _PLACES[0])
    attempt(Step.PROPAGATION, lambda: mount("none", "/", "", MS_REC | MS_PRIVATE))
    attempt(Step.READ_ONLY, lambda: mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, attr_set=MOUNT_ATTR_RDONLY))
    attempt(Step.TMPFS, lambda: attach(tmpfs(size_bytes=1 << 20, mode=0o700), place))
    os.chdir(place)
    for name in ("low", "low/directory", "up", "work", "merged"):
        os.mkdir(name)
    os.close(os.open("low/file", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    overlay = Overlay(
        lowers=(f"{place}/low",),
        upper=f"{place}/up",
        work=f"{place}/work",
        userxattr=True,
        volatile=True,
    )
    attempt(Step.OVERLAY, lambda: mount_overlay(overlay, "merged"))
    attempt(Step.WHITEOUT, _make_whiteout)
    attempt(Step.OPAQUE, _make_opaque)
    attempt(Step.PROC, lambda: attach(proc(), "low"))
    report(done=has_lowerdir_plus())


def _make_whiteout() -> None:
    os.unlink("merged/file")
    if not stat.S_ISCHR(os.lstat("up/file").st_mode):
        raise OSError(errno.ENOTSUP, "a deletion left no whiteout behind", "up/file")


def _make_opaque() -> None:
    os.rmdir("merged/directory")
    os.mkdir("merged/directory")
    os.getxattr("up/directory", "user.overlay.opaque")
