"""Why the kernel refused to change or show mounts, as errors that name the call, the path and the cure. Pure."""

from __future__ import annotations

import errno

from jubako.errors import HostError, InputError
from jubako.kernel.mount_table import find_mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.errors import JubakoError
    from jubako.kernel.mount_table import Mount

__all__ = ["NAMESPACE_OF_ONES_OWN", "explain_propagation_refusal", "explain_table_refusal"]

NAMESPACE_OF_ONES_OWN = "As root, or in a mount namespace of your own: jubako unshare -rm"


def explain_propagation_refusal(
    error: OSError, path: str, resolved: str, table: Sequence[Mount], propagation: str
) -> JubakoError:
    """Why `set_propagation` failed for `path`, which is `resolved` without symbolic links."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
        return InputError(f"{path}: {error.strerror}", hint="'jubako mounts' lists the mount points.")
    if error.errno == errno.EINVAL:
        found = find_mount(table, resolved)
        point = found.mount_point if found else "/"
        return InputError(
            f"{path} is not a mount point; it lies on the mount at {point} ({error.strerror})",
            hint=f"jubako mounts set {point} {propagation}, or make it one first: mount --bind {path} {path}",
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return HostError(
            f"how {path} propagates cannot be changed without root's rights over this mount namespace"
            f" ({error.strerror})",
            hint=NAMESPACE_OF_ONES_OWN,
        )
    return HostError(f"{path}: {error.strerror}", hint="'jubako doctor' shows what this host can do.")


def explain_table_refusal(error: OSError, pid: int | None) -> JubakoError:
    """Why the mounts of process `pid` (None: of this one) cannot be read."""
    if pid is None:
        return HostError(
            f"the mount table cannot be read ({error.strerror})",
            hint="Is /proc mounted? As root: mount -t proc proc /proc",
        )
    if error.errno in (errno.ENOENT, errno.ESRCH):
        return InputError(f"there is no process {pid}", hint="'ps -e' lists them; /proc may hide those of other users.")
    if error.errno == errno.EINVAL:
        return InputError(f"process {pid} has ended and sees no mounts any more", hint="Name one that runs: ps -e")
    return HostError(f"the mounts of process {pid} cannot be read ({error.strerror})", hint="Try it as root.")
