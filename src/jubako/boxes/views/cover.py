"""Which directories a job gets copy-on-write: the fewest overlays that cover every place it is likely to write. Pure.

An overlay of a directory covers everything below it on the same mount, so a place inside another one needs none of its
own. Four things stand in the way of a whole overlay, and each has its answer:

    a mount below, as root             the mount is put back on top, read-only (`plan`); a place on it gets an overlay
    a mount below, in a user namespace refused by the kernel (the mount is locked): the directories beside it instead
    in a user namespace, a directory   it cannot be copied up, so nothing can be made below it: a place below it, or the
    of a group or user it lacks        directory itself, gets an overlay of its own, whose top is this user's
    a file system overlayfs cannot use, or one the kernel refused before: left read-only

What could not be covered is said in `notes`, once per worker; a write there fails and names the path.
"""

from __future__ import annotations

from jubako.boxes.views.facts import HostFacts, Place, is_below, mount_id_of, must_split
from jubako.kernel.mount_table import find_mount, mounts_below
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["OWN_VIEW", "Cover", "plan_cover"]

# Names compared without regard to case, or looked up by the file system itself: no lower layer (ovl_dentry_weird).
_NO_LOWER = frozenset({"autofs", "exfat", "hfs", "hfsplus", "msdos", "ntfs", "ntfs3", "vfat"})
OWN_VIEW = ("/dev", "/proc", "/run", "/sys")  # replaced or read-only in every box
_SPLIT_LIMIT = 16  # each overlay costs a task about 0.1 ms


@record
class Cover:
    """The directories to overlay, parents before what lies below them, and what could not be covered."""

    directories: tuple[str, ...]
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()  # single files bound over others, of which a copy takes the place


def plan_cover(places: Sequence[Place], facts: HostFacts, refused: Collection[str] = ()) -> Cover:
    """The fewest directories whose overlays cover `places`. `refused` are those the kernel would not mount before."""
    wanted: set[str] = set()
    notes: list[str] = []
    for place in places:
        if place.writable:
            directories, note = _cover_one(place, facts, refused)
            wanted.update(directories)
            if note and note not in notes:
                notes.append(note)
    unmapped = {path for place in places for path in place.unmapped}
    return Cover(_without_nested(wanted, unmapped, facts), tuple(notes))


def _cover_one(place: Place, facts: HostFacts, refused: Collection[str]) -> tuple[Sequence[str], str]:
    """The directories that cover `place`, and a note where they do not cover all of it."""
    path = place.path
    if path == "/" or any(is_below(path, directory) for directory in OWN_VIEW):
        is_run_mount = any(is_below(path, point) for point in facts.run_mounts)
        if not is_run_mount:
            return (
                (),
                "" if path != "/" else f"{place.purpose}: in / a task writes through a target only, not by name",
            )
    if any(is_below(path, hidden) for hidden in facts.hidden):
        return (), f"{place.purpose} ({path}) is read-only: it is inside jubako's own state"
    mount = find_mount(facts.mounts, path)
    if mount is None or mount.is_read_only:
        return (), ""
    if mount.fstype in _NO_LOWER:
        return (), f"{place.purpose} ({path}) is read-only: overlayfs cannot stack on {mount.fstype}"
    if path in refused:
        return (), f"{place.purpose} ({path}) is read-only: the kernel refused an overlay of it"
    if must_split(path, facts):
        return _split(place, facts, refused)
    return (path,), ""


def _split(place: Place, facts: HostFacts, refused: Collection[str]) -> tuple[Sequence[str], str]:
    """The directories in `place` without a mount below, if they are few."""
    below = mounts_below(facts.mounts, place.path)
    paths = [f"{place.path}/{name}" for name in place.children]
    free = [
        path for path in paths if path not in refused and not any(is_below(mount.mount_point, path) for mount in below)
    ]
    points = ", ".join(sorted({mount.mount_point for mount in below})[:3])
    if len(free) > _SPLIT_LIMIT:
        free = []
    covered = f"only {len(free)} of its directories can be written" if free else "it is read-only"
    return free, f"{place.purpose} ({place.path}): {covered}, since without root a mount below it ({points}) is locked"


def _without_nested(wanted: Collection[str], unmapped: Collection[str], facts: HostFacts) -> tuple[str, ...]:
    """`wanted` without those that the overlay of another one serves as well, sorted, so parents come first.

    It does on the same mount, if none of the `unmapped` directories is on the way.
    """
    kept: list[str] = []
    for path in sorted(wanted):
        mount_id = mount_id_of(path, facts)
        around = [one for one in kept if is_below(path, one) and mount_id_of(one, facts) == mount_id]
        nearest = max(around, key=len, default="")
        on_the_way = [one for one in unmapped if is_below(path, one) and is_below(one, nearest) and one != nearest]
        if not around or on_the_way:
            kept.append(path)
    return tuple(kept)
