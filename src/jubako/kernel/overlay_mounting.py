"""Mounting and unmounting overlays by hand: what can be checked is checked first, and a refusal is explained.

The layers are opened before they are looked at, and mounted by descriptor, so what was checked is what is mounted, and
no name needs escaping. The kernel says why it refuses an overlay in its log, which few may read; to the caller it is
EINVAL. `overlay_refusal` finds out which of the reasons it was.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from jubako.errors import ConflictError, InputError
from jubako.kernel.files import statx
from jubako.kernel.idmap import read_id_map
from jubako.kernel.mount_table import Mount, find_mount, read_mount_table
from jubako.kernel.mounts import MNT_DETACH, UMOUNT_NOFOLLOW, umount2
from jubako.kernel.overlay import Overlay, mount_overlay
from jubako.kernel.overlay_options import ShownLayers, parse_shown_options
from jubako.kernel.overlay_refusal import OpenedLayer, explain_mount_refusal, explain_unmount_refusal, lies_within
from jubako.kernel.propagation import read_other_views
from jubako.kernel.syscalls import AT_EMPTY_PATH
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


__all__ = ["LAYERS_AT_MOST", "find_overlays_of", "mount_layers", "needs_userxattr", "unmount_layers"]

LAYERS_AT_MOST = 500  # overlayfs's own limit
_EVERYBODY = 0xFFFFFFFF
_OF_THEIR_OWN = frozenset(("lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir", "volatile", "userxattr"))


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
        if above:
            _refuse_second(upper, above[0].path)
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
            raise explain_mount_refusal(error, overlay, below, above, target) from error
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
        raise explain_unmount_refusal(error, target, path, found) from error
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


def _refuse_second(name: str, upper: str) -> None:
    """Raises ConflictError if an overlay writes to `upper` already, in this mount namespace or another."""
    if users := find_overlays_of(upper):
        point = users[0].mount_point
        raise ConflictError(
            f"{name} is the upper directory of the overlay at {point} already",
            hint=f"Unmount that first: jubako overlay umount {point}",
            is_repeatable=False,
        )
    for view in read_other_views(read_mount_table()):
        for mount in view.mounts:
            shown = parse_shown_options(mount.super_options).upper if mount.fstype == "overlay" else ""
            if shown and _is_same(f"/proc/{view.pid}/root{shown}", upper):
                raise ConflictError(
                    f"{name} is the upper directory of the overlay at {mount.mount_point}"
                    f" of {view.process} ({view.pid}) already",
                    hint="It goes when the last process in that mount namespace ends.",
                    is_repeatable=False,
                )


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


def _open(name: str, problems: list[str], held: ExitStack) -> OpenedLayer | None:
    try:
        fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        problems.append(f"{name}: {error.strerror}")
        return None
    held.callback(os.close, fd)
    return OpenedLayer(name, fd)


def _find_pair_problems(upper: OpenedLayer, work: OpenedLayer) -> list[str]:
    one, other = (statx(layer.fd, "", AT_EMPTY_PATH) for layer in (upper, work))
    if (one.device, one.mnt_id) != (other.device, other.mnt_id):
        return [f"{work.name} is not on the same file system, by the same mount, as {upper.name}"]
    if lies_within(upper.path, work.path) or lies_within(work.path, upper.path):
        return [f"{upper.name} and {work.name} must not lie in each other"]
    return []


def _is_same(shown: str, path: str) -> bool:
    try:
        return bool(shown) and os.path.samefile(shown, path)
    except OSError:  # what the table shows is the name of then
        return False
