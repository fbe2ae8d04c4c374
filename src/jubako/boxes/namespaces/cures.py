"""What to do about a step that the kernel refused. Pure."""

from __future__ import annotations

import errno

from jubako.boxes.namespaces.unshare_steps import (
    BindNamespace,
    ChangeRoot,
    KeepCapabilities,
    MakeNamespaces,
    MapIds,
    MountBinfmt,
    MountProc,
    RegisterFormat,
    SetClock,
    SetGid,
    Setgroups,
    SetUid,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.boxes.namespaces.unshare_steps import Fork, Step

__all__ = ["find_cure"]

_FORBIDDEN = "User namespaces are forbidden to you here; 'jubako doctor' says by what."
_NOT_ALL_MAPPED = "Only ids that are mapped can be set: --map-auto maps a range, --map-users and --map-groups any."


def find_cure(step: Step | BindNamespace | Fork, code: int) -> str:
    """The next thing to try when `step` failed with this errno, or ""."""
    match step:
        case MakeNamespaces(kinds) if code == errno.EPERM:
            return _FORBIDDEN if "user" in kinds else "Be root, or add --map-root-user (-r) for a user namespace."
        case MakeNamespaces() if code == errno.ENOSPC:
            return "Too many namespaces, or nested too deep: raise /proc/sys/user/max_*_namespaces, as root."
        case MakeNamespaces() if code == errno.EINVAL:
            return "This kernel lacks one of these kinds, or this process has threads."
        case MapIds(kind) if code in (errno.EPERM, errno.EINVAL):
            return f"A map may hold ids that the caller's own namespace has: see /proc/self/{kind}_map."
        case Setgroups() if code == errno.EPERM:
            return "It is decided by the parent namespace, or by --map-group, which denies it."
        case SetClock() if code in (errno.EACCES, errno.ERANGE):
            return "A clock of a time namespace can be set once, and can't read less than zero."
        case BindNamespace() if code == errno.ENOENT:
            return "The file must exist: touch it first."
        case BindNamespace(kind) if code == errno.EINVAL and kind == "mount":
            return (
                "A mount namespace can be bound only where mounts are private: mount --bind D D; mount --make-private D"
            )
        case BindNamespace() if code == errno.EPERM:
            return "Binding a namespace to a file takes root: CAP_SYS_ADMIN in the mount namespace of that file."
        case MountProc() if code == errno.EPERM:
            return "Add --pid --fork: a proc is mounted by a process inside the pid namespace."
        case MountBinfmt() if code in (errno.EPERM, errno.ENODEV):
            return "It needs a user namespace (-r) and Linux 6.7, with binfmt_misc built in or loaded."
        case RegisterFormat():
            return "A format is :name:type:offset:magic:mask:interpreter:flags, and its interpreter must be there."
        case ChangeRoot() if code == errno.EPERM:
            return "Be root, or add --map-root-user (-r)."
        case SetGid() if code == errno.EPERM:
            return "setgroups is denied in this user namespace, as it is with --map-group or -r."
        case SetGid() | SetUid() if code == errno.EINVAL:
            return _NOT_ALL_MAPPED
        case SetUid() | KeepCapabilities() if code == errno.EPERM:
            return "Be root, or add --map-root-user (-r)."
    return ""
