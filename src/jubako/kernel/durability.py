"""What a file system keeps when the power goes: whether `fsync` followed by `rename` survives on it.

Publishing with full durability relies on two things: that what was synced is on the disk, and that renames come back
after a crash in order and whole. Journaling and copy-on-write file systems give both; memory gives none, and of a file
system on another machine nothing can be known here. Facts come from the mount table, /sys and /proc/fs, which every
user may read.
"""

from __future__ import annotations

import os

from jubako.kernel.mount_table import Mount, find_mount, read_mount_table
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MEMORY_TYPES", "Durability", "assess_durability", "is_network_type", "read_durability"]

MEMORY_TYPES = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
_NETWORK_TYPES = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "fhgfs", "gfs", "gfs2", "glusterfs", "gpfs", "lustre"),
        *("ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs", "virtiofs"),
        *("fuse.ceph", "fuse.davfs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.mfs"),
        *("fuse.moosefs", "fuse.rclone", "fuse.s3fs", "fuse.seaweedfs", "fuse.sshfs", "fuse.weed"),
    }
)
_ORDERED_TYPES = frozenset({"ext3", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "bcachefs", "nilfs2"})
_PLAIN_TYPES = frozenset({"ext2", "vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "hfsplus", "minix"})
_NO_BARRIER = frozenset({"nobarrier", "barrier=0"})


@record
class Durability:
    """Whether the file system at `mount_point` can keep `full`, and if not, why and what to do about it."""

    mount_point: str
    fstype: str
    holds_full: bool
    why_not: str = ""
    cure: str = ""


def read_durability(path: str, table: Sequence[Mount] | None = None) -> Durability:
    """What holds for the file system of `path`, or of the directory where it would be made."""
    found = find_mount(read_mount_table() if table is None else table, os.path.realpath(path))
    if found is None:
        return Durability("", "", False, f"{path} is on no mount that can be seen", "look at /proc/self/mountinfo")
    return assess_durability(found, _read_ext4_options(found.device) if found.fstype == "ext4" else None)


def assess_durability(mount: Mount, ext4_options: frozenset[str] | None = None) -> Durability:
    """What holds for a mount. `ext4_options` are all that are in force (None: they could not be read)."""
    kind, options = mount.fstype, frozenset(mount.super_options.split(","))

    def no(why_not: str, cure: str) -> Durability:
        return Durability(mount.mount_point, kind, False, why_not, cure)

    move = "put outputs and state on a local disk with ext4, xfs or btrfs"
    if kind in MEMORY_TYPES:
        return no(f"{kind} is memory: it is empty after a restart", move)
    if is_network_type(kind):
        return no(f"{kind} is on another machine, whose disk and order of writes cannot be known here", move)
    if kind in _PLAIN_TYPES:
        return no(f"{kind} has no journal: a power loss may undo or tear a rename", move)
    if kind == "overlay":
        if options & {"volatile", "fsync=volatile"}:
            return no("this overlay is volatile: it never syncs", "mount it without volatile, or use a bind mount")
        return no(
            "an overlay does not say which disk is below it", "in a container, use a volume for outputs and state"
        )
    if options & _NO_BARRIER:
        return no("it is mounted without barriers: the disk may reorder writes", "mount it with barriers")
    if kind == "ext4":
        if ext4_options is None:
            return no("whether this ext4 has a journal cannot be read here", "see tune2fs -l of its device, as root")
        if ext4_options & _NO_BARRIER:
            return no("it is mounted without barriers: the disk may reorder writes", "mount it with barriers")
        if not any(option.startswith("data=") for option in ext4_options):
            return no(
                "this ext4 has no journal: a power loss may undo or tear a rename",
                _journal_cure(mount),
            )
        return Durability(mount.mount_point, kind, True)
    if kind in _ORDERED_TYPES:
        return Durability(mount.mount_point, kind, True)
    return no(f"whether {kind} keeps the order of synced renames is not known", move)


def _journal_cure(mount: Mount) -> str:
    """How an ext4 gets a journal, which needs it unmounted."""
    if mount.mount_point == "/":
        return (
            "put outputs and JUBAKO_STATE on a disk that has one, or start the machine from a rescue system and run "
            "'tune2fs -O has_journal' on this one"
        )
    return f"umount {mount.mount_point}, then 'tune2fs -O has_journal' on its device; or another disk"


def is_network_type(fstype: str) -> bool:
    """True if files of this type are on another machine, or may be changed by one."""
    return fstype in _NETWORK_TYPES


def _read_ext4_options(device: int) -> frozenset[str] | None:
    """All options in force on the ext4 of `device`; a journal shows as "data=...". None where they cannot be read."""
    try:
        name = os.path.basename(os.readlink(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"))
        with open(f"/proc/fs/ext4/{name}/options", encoding="utf-8") as file:
            return frozenset(file.read().split())
    except OSError:
        return None
