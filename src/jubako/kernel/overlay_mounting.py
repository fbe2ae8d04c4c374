"""Mounting and unmounting overlays by hand: what can be checked is checked first, and a refusal is explained.

The layers are opened before they are looked at, and mounted by descriptor, so what was checked is what is mounted, and
no name needs escaping. The kernel says why it refuses an overlay in its log, which few may read; to the caller it is
EINVAL. `_explain` finds out which of the reasons it was.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack

from jubako.errors import ConflictError, HostError, InputError
from jubako.kernel.files import statx
from jubako.kernel.idmap import read_id_map
from jubako.kernel.mount_refusal import NAMESPACE_OF_ONES_OWN
from jubako.kernel.mount_table import Mount, find_mount, mounts_below, read_mount_table
from jubako.kernel.mounts import MNT_DETACH, UMOUNT_NOFOLLOW, umount2
from jubako.kernel.overlay import Overlay, mount_overlay
from jubako.kernel.overlay_options import ShownLayers, parse_shown_options
from jubako.kernel.syscalls import AT_EMPTY_PATH, AT_FDCWD
from jubako.records import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jubako.errors import JubakoError

__all__ = ["LAYERS_AT_MOST", "find_overlays_of", "mount_layers", "needs_userxattr", "unmount_layers"]

LAYERS_AT_MOST = 500  # overlayfs's own limit
_EVERYBODY = 0xFFFFFFFF
_OF_THEIR_OWN = frozenset(("lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir", "volatile", "userxattr"))


@record
class _Opened:
    """A layer: what it was called, and the descriptor it is mounted by."""

    name: str
    fd: int

    @property
    def path(self) -> str:
        """Its path now, without links."""
        return os.readlink(f"/proc/self/fd/{self.fd}")


def mount_layers(
    target: str,
    lowers: Sequence[str],
    *,
    upper: str = "",
    work: str = "",
    volatile: bool = False,
    options: Sequence[tuple[str, str]] = (),
) -> Overlay:
    """Mounts an overlay of the directories `lowers`, the topmost first, on the directory `target`; what was mounted.

    Without `upper` and `work`, which go together, nothing can be written. In a user namespace overlayfs keeps its marks
    in user.* attributes, elsewhere in trusted.*. `volatile` never syncs; see `unmount_layers` for what remains of it.
    `options` are more of overlayfs's own, as redirect_dir=on.

    Raises InputError with everything that is wrong about what was asked, ConflictError if `upper` is mounted already
    (two overlays on one spoil it), HostError where the kernel refuses.
    """
    problems = [*_find_problems(lowers, upper, work, volatile), *_find_option_problems(options)]
    with ExitStack() as held:
        below = [opened for name in lowers if (opened := _open(name, problems, held)) is not None]
        above = [opened for name in (upper, work) if name and (opened := _open(name, problems, held)) is not None]
        if not os.path.isdir(target):
            problems.append(
                f"{target}, to mount it on, is {'no directory' if os.path.lexists(target) else 'not there'}"
            )
        if upper and work and len(above) == 2:
            problems += _find_pair_problems(*above)
        if problems:
            raise InputError("; ".join(problems), hint="'jubako overlay mount --help' shows how.")
        if above and (users := find_overlays_of(above[0].path)):
            raise ConflictError(
                f"{upper} is the upper directory of the overlay at {users[0].mount_point} already",
                hint=f"Unmount that first: jubako overlay umount {users[0].mount_point}",
                is_repeatable=False,
            )
        overlay = Overlay(
            lowers=tuple(layer.fd for layer in below),
            upper=above[0].fd if above else "",
            work=above[1].fd if above else "",
            userxattr=needs_userxattr(),
            volatile=volatile,
            attributes=0,  # what mount(8) would give it: what is in the layers is on this machine already
            options=tuple(options),
        )
        try:
            mount_overlay(overlay, target)
        except OSError as error:
            raise _explain(error, overlay, below, above, target) from error
        paths = tuple(layer.path for layer in below)
        return replace(overlay, lowers=paths, upper=above[0].path if above else "", work=above[1].path if above else "")


def unmount_layers(target: str, *, lazy: bool = False) -> ShownLayers:
    """Unmounts the overlay at `target`; the layers it had.

    With `lazy` at once for lookups, and for good when nobody uses it any more. A volatile overlay leaves the directory
    `incompat/volatile` in its work directory: nobody knows whether its upper directory has reached the disk, and it
    can't be mounted again until that is removed. Raises InputError if there is no overlay, ConflictError if it is in
    use.
    """
    path = os.path.realpath(target)
    found = find_mount(read_mount_table(), path)
    if not os.path.lexists(path):
        raise InputError(f"{target} is not there", hint="'jubako mounts' lists what is mounted.")
    if found is None or found.mount_point != path:
        raise InputError(f"nothing is mounted on {target}", hint="'jubako mounts' lists what is mounted.")
    if found.fstype != "overlay":
        raise InputError(f"{target} is no overlay but {found.fstype}", hint=f"umount {target}")
    try:
        umount2(path, UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0))
    except OSError as error:
        raise _explain_unmount(error, target, path, found) from error
    return parse_shown_options(found.super_options)


def find_overlays_of(upper: str) -> list[Mount]:
    """The overlays, of those this process sees, that write to the directory `upper`."""
    return [
        mount
        for mount in read_mount_table()
        if mount.fstype == "overlay" and _is_same(parse_shown_options(mount.super_options).upper, upper)
    ]


def needs_userxattr() -> bool:
    """True in a user namespace that isn't the first: overlayfs may not keep its marks in trusted.* there."""
    return [one.count for one in read_id_map("uid")] != [_EVERYBODY]


def _find_problems(lowers: Sequence[str], upper: str, work: str, volatile: bool) -> list[str]:
    problems = []
    if upper and not work:
        problems.append("an upper directory needs a work directory, an empty one on the same file system")
    if work and not upper:
        problems.append("a work directory is for an upper directory, and none was given")
    if not lowers:
        problems.append("no lower directory was given")
    elif len(lowers) == 1 and not upper and not work:
        problems.append("an overlay that is only read needs two lower directories, or an upper and a work directory")
    if len(lowers) > LAYERS_AT_MOST:
        problems.append(f"{len(lowers)} lower directories were given, and an overlay has {LAYERS_AT_MOST} at most")
    if volatile and not upper:
        problems.append("volatile is for overlays that can be written, and there is no upper directory")
    return problems


def _find_option_problems(options: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name} cannot be set as an option" for name, _ in options if not name or name in _OF_THEIR_OWN]


def _open(name: str, problems: list[str], held: ExitStack) -> _Opened | None:
    try:
        fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        problems.append(f"{name}: {error.strerror}")
        return None
    held.callback(os.close, fd)
    return _Opened(name, fd)


def _find_pair_problems(upper: _Opened, work: _Opened) -> list[str]:
    one, other = (statx(layer.fd, "", AT_EMPTY_PATH) for layer in (upper, work))
    if (one.device, one.mnt_id) != (other.device, other.mnt_id):
        return [f"{work.name} is not on the same file system, by the same mount, as {upper.name}"]
    if _is_within(upper.path, work.path) or _is_within(work.path, upper.path):
        return [f"{upper.name} and {work.name} must not lie in each other"]
    return []


def _explain(
    error: OSError, overlay: Overlay, below: Sequence[_Opened], above: Sequence[_Opened], target: str
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


def _find_overlap(layers: Sequence[_Opened]) -> str:
    for place, layer in enumerate(layers):
        for other in layers[place + 1 :]:
            if _is_within(layer.path, other.path) or _is_within(other.path, layer.path):
                return f"{layer.name} and {other.name}"
    return ", ".join(layer.name for layer in layers[:3])


def _find_locked(layers: Iterable[_Opened]) -> list[str]:
    table = read_mount_table()
    return [layer.name for layer in layers if mounts_below(table, layer.path)]


def _type_below(layer: _Opened) -> str:
    found = find_mount(read_mount_table(), layer.path)
    return found.fstype if found else "unknown"


def _explain_unmount(error: OSError, target: str, path: str, found: Mount) -> JubakoError:
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


def _is_within(directory: str, path: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _is_same(shown: str, path: str) -> bool:
    try:
        return bool(shown) and os.path.samefile(shown, path)
    except OSError:  # what the table shows is the name of then
        return False
