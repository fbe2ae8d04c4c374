"""Has a tree of mounts that was taken show other owners of its files, or says why the kernel refuses to, and the cure.

The kernel maps the ids of some file systems, of others never, and says EINVAL for both a kernel that is too old and a
file system that cannot be mapped. A tree is mapped whole or not at all, so which mount of it is refused is found by
trying each alone.
"""

from __future__ import annotations

import errno
import os

from jubako.boxes.views.facts import is_below
from jubako.errors import HostError
from jubako.kernel import mounts
from jubako.kernel.idmap import IdRange
from jubako.kernel.mount_table import find_mount, mounts_below, read_mount_table
from jubako.kernel.syscalls import AT_FDCWD
from jubako.kernel.user_namespaces import open_user_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.boxes.mounts import IdMap
    from jubako.kernel.mount_table import Mount

__all__ = ["explain_refusal", "idmap_tree"]

_ALL_IDS = (IdRange(0, 0, 0xFFFFFFFF),)
_CAN = "Bind directories of ext4, xfs or btrfs, or, from Linux 6.3 on, tmpfs, with nothing else mounted below."


def idmap_tree(fd: int, source: str, idmap: IdMap) -> None:
    """Maps the owners of all files of the detached tree `fd`, a copy of what is mounted at `source` and below.

    Raises HostError that names the mount that cannot be mapped.
    """
    try:
        userns_fd = open_user_namespace(_ranges(idmap.uids), _ranges(idmap.gids))
    except OSError as error:
        raise HostError(
            f"no user namespace can be made that holds the ids of {source}: {error}", hint=_find_cure(error)
        ) from error
    try:
        mounts.idmap_tree(fd, userns_fd, recursive=True)
    except OSError as error:
        refused, said = next(_find_refused(source, userns_fd), (None, error))
        raise explain_refusal(said, source, refused) from error
    finally:
        os.close(userns_fd)


def explain_refusal(error: OSError, source: str, refused: Mount | None) -> HostError:
    """Why the owners of the files at `source` cannot be mapped: `error` is what the kernel says of the mount `refused`
    of it, or of all of it if it is none alone."""
    where = f"the owners of the files at {source} cannot be mapped"
    if refused is None:
        return HostError(f"{where}: {error}", hint=_CAN)
    point, fstype = refused.mount_point, refused.fstype
    if point != source and is_below(point, source):
        where += f", for {point} lies below it"
    if "idmapped" in refused.options.split(","):
        return HostError(f"{where}: {point} is mapped already", hint="Bind it from where its files show as on disk.")
    if error.errno == errno.EPERM:
        return HostError(
            f"{where}: the {fstype} at {point} was mounted in another user namespace, where this root has no rights",
            hint="Mount it as root of the machine, outside of containers.",
        )
    if fstype == "overlay":
        return HostError(f"{where}: {point} is an overlay, which the kernel does not map", hint=_CAN)
    return HostError(f"{where}: {point} is {fstype}, which this kernel does not map", hint=_CAN)


def _ranges(ranges: Sequence[tuple[int, int, int]]) -> tuple[IdRange, ...]:
    return tuple(IdRange(*one) for one in ranges) or _ALL_IDS


def _find_cure(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "Raise the number of user namespaces there may be: /proc/sys/user/max_user_namespaces"
    return "Root must be able to make user namespaces and have all of these ids itself (/proc/self/uid_map, gid_map)."


def _find_refused(source: str, userns_fd: int) -> Iterator[tuple[Mount, OSError]]:
    """The mounts at and below `source` that cannot be mapped one by one, and what the kernel says of each."""
    table = read_mount_table()
    at = find_mount(table, source)
    for mount in (*([at] if at else []), *mounts_below(table, source)):
        try:
            fd = mounts.open_tree(AT_FDCWD, source if mount is at else mount.mount_point, mounts.OPEN_TREE_CLONE)
        except OSError:  # hidden by a later one, or gone
            continue
        try:
            mounts.idmap_tree(fd, userns_fd)
        except OSError as error:
            yield mount, error
        finally:
            os.close(fd)
