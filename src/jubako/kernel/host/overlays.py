"""Overlay mounts: as root, in a user namespace, how many layers, and on top of which file systems.

The last is tried for real in each directory that is to hold what boxes write: a folder `.jubako-doctor-PID` is made
there, an overlay is mounted on it in a child's own mount namespace, and the folder is removed again. What a killed
doctor left there, the next one removes.
"""

from __future__ import annotations

import errno
import os
import stat

from jubako.kernel.children import fork_child, wait_for
from jubako.kernel.host.ability import Ability
from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.mount_table import find_mount
from jubako.kernel.mounts import MS_PRIVATE, MS_REC, mount
from jubako.kernel.namespaces import CLONE_NEWNS, unshare
from jubako.kernel.overlay import Overlay, mount_overlay
from jubako.kernel.refusal import explain_refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.kernel.box_trial import Trial
    from jubako.kernel.mount_table import Mount
    from jubako.kernel.refusal import Switches

__all__ = ["look_at_overlays", "look_at_top"]

_ABOUT = "overlays"
_NAME = ".jubako-doctor-"
_WHY = "a box shows this machine copy-on-write by overlays"


def look_at_overlays(trials: Sequence[Trial], switches: Switches) -> Iterator[Ability]:
    """What the trials, with and without a user namespace, say of overlays."""
    for trial in trials:
        name = "overlay in a user namespace" if trial.with_user_namespace else "overlay as root"
        if trial.failed is None:
            yield Ability(_ABOUT, name, "yes", "mounts, and keeps deletions and replaced directories", _WHY)
        else:
            refusal = explain_refusal(trial, switches)
            is_last = trial is trials[-1]
            yield Ability(_ABOUT, name, "no" if is_last else "limited", refusal.reason, _WHY, refusal.cure)
    yield _look_at_layers(trials)


def look_at_top(name: str, path: str, table: Sequence[Mount], *, with_user_namespace: bool) -> Iterator[Ability]:
    """Whether what boxes write can be kept in the existing directory `path`; nothing where it cannot be written."""
    if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
        return
    found = find_mount(table, path)
    kind = found.fstype if found else "unknown"
    why = "what a command's box writes is kept there, as the top of an overlay"
    title = f"overlay in the {name}"
    number, said = _try_top(path, with_user_namespace=with_user_namespace)
    if not number:
        yield Ability(_ABOUT, title, "yes", f"{path} ({kind}) can be the top of an overlay", why)
        return
    move = "set JUBAKO_STATE to a directory on a local disk, or a tmpfs"
    if kind == "overlay":
        said = "an overlay cannot be the top of another"
        move = "set JUBAKO_STATE to a directory on a volume or a tmpfs: not on an overlay, as / is in a container"
    elif number == errno.EINVAL:
        said = f"{kind} cannot be the top of an overlay"
    yield Ability(_ABOUT, title, "no", f"{path} cannot hold what boxes write: {said}", why, move)


def _look_at_layers(trials: Sequence[Trial]) -> Ability:
    name, why = "overlay layers", "boxes may be stacked, and images have many layers"
    if any(trial.has_lowerdir_plus for trial in trials):
        return Ability(_ABOUT, name, "yes", "up to 500 layers, of any name", why)
    if any(trial.failed is None for trial in trials):
        meaning = "as many layers as fit 4095 bytes"
        return Ability(_ABOUT, name, "limited", meaning, why, "use Linux 6.7 or newer")
    return Ability(_ABOUT, name, "no", "not tried, since boxes cannot be made", why, "see boxes")


def _try_top(path: str, *, with_user_namespace: bool) -> tuple[int, str]:
    """The number and text of the error that an overlay with its top below `path` ended with; (0, "") if none did."""
    _sweep(path)
    place = os.path.join(path, f"{_NAME}{os.getpid()}")
    read_end, write_end = os.pipe()
    try:
        os.mkdir(place, 0o700)
        for name in ("low", "up", "work", "merged"):
            os.mkdir(f"{place}/{name}")
        os.mkdir(f"{place}/low/directory")
        try:
            status = wait_for(fork_child(lambda: _mount_in_child(place, with_user_namespace, write_end)))
        finally:
            os.close(write_end)
        with os.fdopen(read_end, "rb", closefd=False) as pipe:
            said = os.fsdecode(pipe.read())
        return status, said
    except OSError as error:
        return error.errno or 1, f"{error.strerror}"
    finally:
        os.close(read_end)
        _remove(place)


def _mount_in_child(place: str, with_user_namespace: bool, report: int) -> int:
    try:
        if with_user_namespace:
            enter_user_namespace(CLONE_NEWNS)
        else:
            unshare(CLONE_NEWNS)
        mount("none", "/", "", MS_REC | MS_PRIVATE)
        overlay = Overlay((f"{place}/low",), f"{place}/up", f"{place}/work", userxattr=with_user_namespace,
                          volatile=True)  # fmt: skip
        mount_overlay(overlay, f"{place}/merged")
        os.rmdir(f"{place}/merged/directory")
        os.mkdir(f"{place}/merged/directory")
        os.getxattr(f"{place}/up/directory", f"{'user' if with_user_namespace else 'trusted'}.overlay.opaque")
    except OSError as error:
        os.write(report, os.fsencode(error.strerror or str(error)))
        return error.errno or 1
    return 0


def _sweep(path: str) -> None:
    """Removes what doctors that are dead left in `path`."""
    for name in os.listdir(path):
        pid = name.removeprefix(_NAME)
        if name.startswith(_NAME) and pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
            _remove(f"{path}/{name}")


def _remove(place: str) -> None:
    """Removes a small tree, also directories that overlayfs made without any permission. Gone is as good as removed."""
    try:
        if not stat.S_ISDIR(os.lstat(place).st_mode):
            os.unlink(place)
            return
        os.chmod(place, 0o700)
        for name in os.listdir(place):
            _remove(f"{place}/{name}")
        os.rmdir(place)
    except FileNotFoundError:
        return
