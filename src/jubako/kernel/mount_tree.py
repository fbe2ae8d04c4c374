"""A mount table as the tree it is: which mount sits on which, what is covered, what is below a path. Pure.

Any list of mounts is taken, whatever its ids say: the table of a chroot lacks the parents of its roots, and one read
while mounts come and go may hold anything.
"""

from __future__ import annotations

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jubako.kernel.mount_table import Mount

__all__ = ["Branch", "arrange_mounts", "find_covered", "mounts_from"]


@record
class Branch:
    """One mount in the tree. `is_last` tells for it, and for all it hangs from but the root, if brothers follow."""

    mount: Mount
    is_last: tuple[bool, ...] = ()  # one for each step down from a root

    @property
    def depth(self) -> int:
        """How many mounts it hangs from; 0 for a root."""
        return len(self.is_last)


def arrange_mounts(table: Sequence[Mount]) -> list[Branch]:
    """Every mount of the table once, parents before children, brothers in the order of the table."""
    first_with = {mount.id: place for place, mount in reversed(list(enumerate(table)))}
    children: dict[int, list[int]] = {}  # by places in the table, since ids may be there twice
    roots = []
    for place, mount in enumerate(table):
        parent = first_with.get(mount.parent_id, place)
        if parent == place:
            roots.append(place)
        else:
            children.setdefault(parent, []).append(place)
    branches: list[Branch] = []
    met: set[int] = set()
    for start in (*roots, *range(len(table))):  # the latter for those that hang from each other in a circle
        if start in met:
            continue
        met.add(start)
        waiting: list[tuple[int, tuple[bool, ...]]] = [(start, ())]
        while waiting:
            place, is_last = waiting.pop()
            branches.append(Branch(table[place], is_last))
            below = [child for child in children.get(place, ()) if child not in met]
            met.update(below)
            waiting += [(child, (*is_last, child == below[-1])) for child in reversed(below)]
    return branches


def find_covered(table: Iterable[Mount]) -> frozenset[int]:
    """The ids of mounts that no path leads to: others were mounted over them, or over a directory above them."""
    mounts = list(table)
    ids = {mount.id for mount in mounts}
    over = {
        (mount.parent_id, mount.mount_point): mount
        for mount in mounts
        if mount.parent_id in ids and mount.parent_id != mount.id
    }
    roots = {mount.mount_point: mount for mount in mounts if mount.parent_id not in ids or mount.parent_id == mount.id}
    return frozenset(mount.id for mount in mounts if _walk_to(mount.mount_point, roots, over) != mount.id)


def mounts_from(table: Sequence[Mount], mount_id: int, path: str) -> list[Mount]:
    """The mount with this id and all that hangs from it at or below `path`, which lies on it, in the table's order."""
    children: dict[int, list[Mount]] = {}
    for mount in table:
        children.setdefault(mount.parent_id, []).append(mount)
    found = {mount_id}
    waiting = [mount_id]
    while waiting:
        below = [mount for mount in children.get(waiting.pop(), ()) if mount.id not in found and _is_below(path, mount)]
        found.update(mount.id for mount in below)
        waiting += [mount.id for mount in below]
    return [mount for mount in table if mount.id in found]


def _is_below(path: str, mount: Mount) -> bool:
    return mount.mount_point == path or mount.mount_point.startswith(path.rstrip("/") + "/")


def _walk_to(path: str, roots: dict[str, Mount], over: dict[tuple[int, str], Mount]) -> int | None:
    """The id of the mount on which a walk down to `path` ends, stepping onto every mount it meets but those that are
    over a root itself: a process keeps the root it has."""
    current: Mount | None = None
    start = ""
    for prefix in _prefixes(path):
        if current is None:
            current = roots.get(prefix)
            start = prefix
            continue
        if prefix == start:
            continue
        steps: set[int] = set()
        while (current.id, prefix) in over and current.id not in steps:
            steps.add(current.id)
            current = over[current.id, prefix]
    return None if current is None else current.id


def _prefixes(path: str) -> list[str]:
    """The directories on the way to `path`, itself the last."""
    found = ["/"]
    for place, letter in enumerate(path):
        if letter == "/" and place > 0:
            found.append(path[:place])
    if path != "/":
        found.append(path)
    return found
