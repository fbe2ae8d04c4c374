"""What becomes of each mount of this machine in the wide view that root gets. Pure.

An overlay of a directory shows what lies on that one mount: where something else is mounted below, it shows the
directory underneath. So every mount a walk from the root can meet is looked at, and becomes one of these:

    overlay     a real file system, or a directory of one bound elsewhere: an overlay of its own
    file        a single file bound over another: a copy of it, since an overlay covers directories only
    read-only   what overlayfs cannot or should not stack on: network file systems, names without case, sockets and
                the like bound by themselves, and mounts that are read-only on the machine too
    left out    the kernel's own file systems (the view has fresh ones), what is in /run but for disks, other
                containers' roots, jubako's state
"""

from __future__ import annotations

from jubako.boxes.views.facts import HostFacts, is_below
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from jubako.kernel.mount_table import Mount

__all__ = ["MountLayout", "is_stackable", "plan_mount_layout", "visible_mounts"]

_REPLACED = ("/dev", "/proc", "/sys")  # the view's own, or bound with all below
_DISK_TYPES = frozenset(
    {"bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "iso9660", "jfs", "nilfs2", "reiserfs", "squashfs"}
    | {"udf", "xfs", "zfs"}
)
_STACKABLE = _DISK_TYPES | {"fuseblk", "overlay", "ramfs", "tmpfs", "virtiofs"}
# Where container engines mount the roots of other containers: dozens, and nobody's business.
_ENGINE_STORAGE = tuple(
    f"/var/lib/{name}" for name in ("containerd", "containers", "docker", "kubelet", "lxc", "lxd", "rancher")
)
_KERNEL_TYPES = frozenset(
    {"autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs"}
    | {"fuse.portal", "fusectl", "hugetlbfs", "mqueue", "nfsd", "nsfs", "proc", "pstore", "rpc_pipefs", "securityfs"}
    | {"selinuxfs", "sysfs", "tracefs"}
)


_last: list[tuple[tuple[Mount, ...], tuple[Mount, ...]]] = []  # the table that was walked last: many boxes have one


@record
class MountLayout:
    """Mount points, parents before what lies below them. "/" is always the first overlay."""

    overlays: tuple[str, ...]
    files: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what is read-only here and not on the machine


def plan_mount_layout(
    facts: HostFacts,
    file_points: Collection[str] = (),
    refused: Collection[str] = (),
    special_points: Collection[str] = (),
) -> MountLayout:
    """The layout of the wide view. `file_points` are the mount points that are files, `special_points` those that are
    sockets and the like, `refused` those whose overlay the kernel would not make."""
    overlays, files, read_only, named = ["/"], [], [], []
    for mount in visible_mounts(facts.mounts):
        point = mount.mount_point
        is_single = point in file_points or point in special_points
        if point == "/" or _is_left_out(mount, facts) or (is_single and is_below(point, "/run")):
            continue
        if mount.is_read_only or mount.is_deleted or point in special_points:
            read_only.append(point)
        elif not is_stackable(mount) or point in refused:
            read_only.append(point)
            named.append(f"{point} ({mount.fstype})")
        elif point in file_points:
            files.append(point)
        else:
            overlays.append(point)
    notes = (f"read-only, since overlayfs does not stack on them: {', '.join(named)}",) if named else ()
    return MountLayout(tuple(overlays), tuple(files), tuple(read_only), notes)


def is_stackable(mount: Mount) -> bool:
    """True if an overlay of `mount` is safe: a local file system whose names are plain bytes."""
    return mount.fstype in _STACKABLE


def visible_mounts(table: Sequence[Mount]) -> tuple[Mount, ...]:
    """The mounts that a walk from the root can meet, parents before children: those not hidden by another one.

    A mount is hidden by one on the same point made later, and by one on a directory above its point on the same parent.
    Not so on "/": a process keeps the root it has, whatever is mounted on top.
    """
    if _last and _last[0][0] is table:
        return _last[0][1]
    ids = {mount.id for mount in table}
    children: dict[int, list[Mount]] = {}
    roots = []
    for mount in table:
        if mount.parent_id in ids and mount.parent_id != mount.id:
            children.setdefault(mount.parent_id, []).append(mount)
        else:
            roots.append(mount)
    found = tuple(seen for root in roots[-1:] for seen in _walk(root, children))
    if isinstance(table, tuple):  # it stays what it is
        _last[:] = [(table, found)]
    return found


def _walk(mount: Mount, children: dict[int, list[Mount]]) -> Iterator[Mount]:
    waiting = [mount]
    while waiting:
        mount = waiting.pop()
        below = children.get(mount.id, [])
        cover = [child for child in below if child.mount_point == mount.mount_point]
        if mount.mount_point == "/":
            below = [child for child in below if child not in cover]
        elif cover:
            waiting.append(cover[-1])
            continue
        yield mount
        waiting.extend(reversed(_outermost(below)))


def _outermost(mounts: Iterable[Mount]) -> list[Mount]:
    """Of the mounts on one parent, those no other one hides."""
    last = {mount.mount_point: mount for mount in mounts}
    return [
        mount
        for point, mount in sorted(last.items())
        if not any(point != other and is_below(point, other) for other in last)
    ]


def _is_left_out(mount: Mount, facts: HostFacts) -> bool:
    point = mount.mount_point
    if mount.fstype in _KERNEL_TYPES or any(is_below(point, directory) for directory in _REPLACED):
        return True
    if any(is_below(point, hidden) for hidden in facts.hidden):
        return True
    if is_below(point, "/run"):  # only disks, which desktops mount there
        return mount.fstype not in _DISK_TYPES
    return any(is_below(point, storage) for storage in _ENGINE_STORAGE)
