"""Why the kernel refused to mount or to unmount an overlay: which of its many reasons for EINVAL it was, in words.

Everything is asked after the refusal, of the layers as they are then.
"""

from __future__ import annotations

import errno
import os

from jubako.errors import ConflictError, HostError, InputError
from jubako.kernel.files import statx
from jubako.kernel.mount_refusal import NAMESPACE_OF_ONES_OWN
from jubako.kernel.mount_table import Mount, find_mount, mounts_below, read_mount_table
from jubako.kernel.overlay import Overlay
from jubako.kernel.syscalls import AT_FDCWD
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jubako.errors import JubakoError

__all__ = ["OpenedLayer", "explain_mount_refusal", "explain_unmount_refusal", "lies_within"]


@record
class OpenedLayer:
    """A layer: what it was called, and the descriptor it is mounted by."""

    name: str
    fd: int

    @property
    def path(self) -> str:
        """Its path now, without links."""
        return os.readlink(f"/proc/self/fd/{self.fd}")


def explain_mount_refusal(
    error: OSError, overlay: Overlay, below: Sequence[OpenedLayer], above: Sequence[OpenedLayer], target: str
) -> JubakoError:
    """What the kernel's refusal means."""
    call = error.strerror or ""
    if error.errno in (errno.EPERM, errno.EACCES):
        return HostError(f"mounting on {target} takes root's rights ({call})", hint=NAMESPACE_OF_ONES_OWN)
    if error.errno in (errno.ENODEV, errno.ENOSYS):
        return HostError(f"this kernel has no overlays ({call})", hint="As root: modprobe overlay")
    if error.errno == errno.ELOOP:
        return InputError(
            f"directories of the overlay lie in each other: {_find_overlap((*below, *above))} ({call})",
            hint="Name each once, and none that is inside another.",
        )
    if error.errno == errno.EBUSY:
        return ConflictError(f"a directory of the overlay is in use by another ({call})", is_repeatable=False)
    for layer in above[:1]:
        mark = f"{above[1].path}/work/incompat/volatile"
        if os.path.lexists(mark):
            return HostError(
                f"{layer.name} is what a volatile overlay left, and may lack what had not reached the disk ({call})",
                hint=f"If it is good all the same: sync; rm -r {mark}",
            )
        fstype = _type_below(layer)
        if fstype == "overlay":
            return HostError(
                f"{layer.name} is on an overlay, which cannot be written through another ({call})",
                hint="Put it on a disk or a tmpfs: in a container, on a volume.",
            )
    if any(_type_below(layer) == "overlay" for layer in below):
        return HostError(f"overlays may be stacked on one another twice at most ({call})")
    if overlay.userxattr and (covered := _find_locked(below)):
        return HostError(
            f"{covered[0]} has something mounted below it, which this user namespace must not uncover ({call})",
            hint="Name directories without mounts below them, or do it as root outside.",
        )
    types = " and ".join(sorted({_type_below(layer) for layer in above}))
    why = f"; can {types} hold the upper directory?" if types else ""
    return HostError(
        f"the kernel refuses this overlay ({call}){why}",
        hint="As root, 'dmesg | tail' may say why; 'jubako doctor' too.",
    )


def _find_overlap(layers: Sequence[OpenedLayer]) -> str:
    for place, layer in enumerate(layers):
        for other in layers[place + 1 :]:
            if lies_within(layer.path, other.path) or lies_within(other.path, layer.path):
                return f"{layer.name} and {other.name}"
    return ", ".join(layer.name for layer in layers[:3])


def _find_locked(layers: Iterable[OpenedLayer]) -> list[str]:
    table = read_mount_table()
    return [layer.name for layer in layers if mounts_below(table, layer.path)]


def _type_below(layer: OpenedLayer) -> str:
    found = find_mount(read_mount_table(), layer.path)
    return found.fstype if found else "unknown"


def explain_unmount_refusal(error: OSError, target: str, path: str, found: Mount) -> JubakoError:
    call = error.strerror or ""
    if error.errno in (errno.EPERM, errno.EACCES):
        return HostError(f"unmounting {target} takes root's rights ({call})", hint="As root, or where it was mounted.")
    if error.errno == errno.EINVAL:
        return HostError(
            f"{target} was mounted outside this user namespace, and stays ({call})",
            hint="Unmount it where it was made.",
        )
    if error.errno == errno.EBUSY:
        inner = [mount.mount_point for mount in mounts_below(read_mount_table(), path)]
        users = [f"{inner[0]} is mounted below it"] if inner else _find_users(found)
        return ConflictError(
            f"{target} is in use: {', '.join(users[:3]) or 'by something that cannot be seen'} ({call})",
            hint=f"End that, or unmount it when nobody uses it any more: jubako overlay umount --lazy {target}",
            is_repeatable=False,
        )
    return HostError(f"{target} cannot be unmounted ({call})")


def _find_users(mount: Mount) -> list[str]:
    """Processes that have a directory or a file of the mount open, in words, as far as they can be looked at."""
    users = []
    for pid in sorted({int(name) for name in os.listdir("/proc") if name.isdigit()} - {os.getpid()}):
        try:
            names = ["cwd", "root", *(f"fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd"))]
            if any(_is_on(f"/proc/{pid}/{name}", mount) for name in names):
                with open(f"/proc/{pid}/comm", "rb") as file:
                    users.append(f"by {os.fsdecode(file.read()).strip()} ({pid})")
        except OSError:  # it has ended, or is not ours to look at
            continue
    return users


def _is_on(path: str, mount: Mount) -> bool:
    try:
        return statx(AT_FDCWD, path, 0).mnt_id == mount.id
    except OSError:  # closed meanwhile, or nothing that statx follows
        return False


def lies_within(directory: str, path: str) -> bool:
    """True if `path` is `directory` or below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")
