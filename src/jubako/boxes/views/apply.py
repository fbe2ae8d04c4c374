"""Performs operations, in order, in the mount namespace this process is in. What they are is said in `operations`.

There is no undo: the caller made the mount namespace for this, and lets it go when an operation fails. A failure is a
`HostError` that says which operation it was in words, with the system call's own error as its cause.
"""

from __future__ import annotations

import errno
import os

from jubako.boxes.views import operations as op
from jubako.errors import BugError, HostError
from jubako.kernel import files, mounts, overlay
from jubako.kernel.filesystems import SOURCE
from jubako.kernel.syscalls import AT_FDCWD, AT_RECURSIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["OperationFailed", "apply_operations", "close_trees"]

_PAGE_BYTES = 4096
_PLANNED_AT_MOST = 1024
_planned: dict[op.MountOverlay, tuple[overlay.Overlay, bytes]] = {}  # jobs of one pipeline mount the same few

_PROPAGATIONS: dict[op.Propagation, int] = {
    "private": mounts.MS_PRIVATE,
    "slave": mounts.MS_SLAVE,
    "shared": mounts.MS_SHARED,
    "unbindable": mounts.MS_UNBINDABLE,
}

_HINTS = {
    errno.EPERM: "the kernel or a security module forbids it; `jubako doctor` says what is missing",
    errno.ENODEV: "this kernel lacks that file system; `jubako doctor` shows what it has",
    errno.ENOSYS: "this kernel is too old; jubako needs Linux 5.12 or newer for boxes",
    errno.ENOSPC: "free space, or raise the limit on mounts in /proc/sys/fs/mount-max",
    errno.EMFILE: "close files, or raise the limit on them ('ulimit -n')",
    errno.ENOMEM: "free memory, or limit the box with scratch_size_bytes",
    errno.ELOOP: "the directories of an overlay may not overlap, and paths may not go in circles",
}


class OperationFailed(HostError):
    """An operation could not be performed; `operation` is the one, `errno` the system's answer."""

    def __init__(self, operation: op.Operation, error: OSError) -> None:
        self.operation = operation
        self.errno = error.errno or 0
        super().__init__(f"cannot {operation.describe()}: {error}", hint=_HINTS.get(self.errno, ""))


def apply_operations(plan: Iterable[op.Operation], trees: dict[str, int] | None = None) -> None:
    """Performs `plan`. Raises OperationFailed at the first failure.

    `trees` maps names to descriptors of trees that were taken before, and gets those taken now: the caller owns it, and
    ends with `close_trees`. Without it, trees live as long as this call.
    """
    held: dict[str, int] = {} if trees is None else trees
    try:
        for operation in plan:
            try:
                _PERFORM[type(operation)](operation, held)
            except OSError as error:
                raise OperationFailed(operation, error) from error
    finally:
        if trees is None:
            close_trees(held)


def close_trees(trees: dict[str, int]) -> None:
    """Lets go of every tree that was taken and not placed."""
    while trees:
        os.close(trees.popitem()[1])


def _set_propagation(operation: op.SetPropagation, _held: dict[str, int]) -> None:
    flags = _PROPAGATIONS[operation.propagation] | (mounts.MS_REC if operation.recursive else 0)
    mounts.mount(SOURCE, operation.target, flags=flags)


def _set_attributes(operation: op.SetAttributes, _held: dict[str, int]) -> None:
    set_flags = clear_flags = 0
    for value, flag in (
        (operation.read_only, mounts.MOUNT_ATTR_RDONLY),
        (operation.nosuid, mounts.MOUNT_ATTR_NOSUID),
        (operation.nodev, mounts.MOUNT_ATTR_NODEV),
        (operation.noexec, mounts.MOUNT_ATTR_NOEXEC),
    ):
        if value is True:
            set_flags |= flag
        elif value is False:
            clear_flags |= flag
    mounts.mount_setattr(
        AT_FDCWD,
        operation.target,
        AT_RECURSIVE if operation.recursive else 0,
        attr_set=set_flags,
        attr_clr=clear_flags,
    )


def _bind(operation: op.Bind, _held: dict[str, int]) -> None:
    flags = mounts.MS_BIND | (mounts.MS_REC if operation.recursive else 0)
    mounts.mount(operation.source, operation.target, flags=flags)


def _take_tree(operation: op.TakeTree, held: dict[str, int]) -> None:
    if operation.name in held:
        raise BugError(f"tree {operation.name!r} is taken twice")
    flags = mounts.OPEN_TREE_CLONE | (AT_RECURSIVE if operation.recursive else 0)
    held[operation.name] = mounts.open_tree(AT_FDCWD, operation.source, flags)


def _idmap_tree(operation: op.IdmapTree, held: dict[str, int]) -> None:
    from jubako.boxes.views.idmapped import idmap_tree  # with what makes a user namespace, for boxes with such

    idmap_tree(held[operation.name], operation.source, operation.idmap)


def _place_tree(operation: op.PlaceTree, held: dict[str, int]) -> None:
    try:
        fd = held.pop(operation.name)
    except KeyError:
        raise BugError(f"tree {operation.name!r} is placed but was never taken") from None
    mounts.attach(fd, operation.target)


def _mount_tmpfs(operation: op.MountTmpfs, _held: dict[str, int]) -> None:
    flags = 0
    if operation.nosuid:
        flags |= mounts.MS_NOSUID
    if operation.nodev:
        flags |= mounts.MS_NODEV
    if operation.noexec:
        flags |= mounts.MS_NOEXEC
    mounts.mount(SOURCE, operation.target, "tmpfs", flags, f"size={operation.size},mode={operation.mode:o}")


def _mount_overlay(operation: op.MountOverlay, _held: dict[str, int]) -> None:
    """One mount(2): a twelfth of the calls of the new way, which is left for what it refuses and says why."""
    wanted, options = _plan_overlay(operation)
    if len(options) >= _PAGE_BYTES:  # mount(2) would look at a part of them
        overlay.mount_overlay(wanted, operation.target)
        return
    try:
        mounts.mount(SOURCE, operation.target, "overlay", mounts.MS_NOSUID | mounts.MS_NODEV, options)
    except OSError:
        if not overlay.has_lowerdir_plus():
            raise
        overlay.mount_overlay(wanted, operation.target)


def _plan_overlay(operation: op.MountOverlay) -> tuple[overlay.Overlay, bytes]:
    if operation not in _planned:
        wanted = overlay.Overlay(
            lowers=operation.lowers,
            upper=operation.upper,
            work=operation.work,
            userxattr=operation.userxattr,
            volatile=operation.volatile and bool(operation.upper),
        )
        if len(_planned) == _PLANNED_AT_MOST:
            _planned.clear()
        _planned[operation] = wanted, os.fsencode(overlay.format_options(wanted))
    return _planned[operation]


def _mount_proc(operation: op.MountProc, _held: dict[str, int]) -> None:
    flags = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
    mounts.mount(SOURCE, operation.target, "proc", flags | (mounts.MS_RDONLY if operation.read_only else 0))


def _mount_sysfs(operation: op.MountSysfs, _held: dict[str, int]) -> None:
    flags = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
    mounts.mount(SOURCE, operation.target, "sysfs", flags | (mounts.MS_RDONLY if operation.read_only else 0))


def _mount_devpts(operation: op.MountDevpts, _held: dict[str, int]) -> None:
    flags = mounts.MS_NOSUID | mounts.MS_NOEXEC
    mounts.mount(SOURCE, operation.target, "devpts", flags, "newinstance,ptmxmode=0666,mode=0620")


def _mask_directory(operation: op.MaskDirectory, _held: dict[str, int]) -> None:
    flags = mounts.MS_RDONLY | mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
    mounts.mount(SOURCE, operation.target, "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555")


def _mask_file(operation: op.MaskFile, _held: dict[str, int]) -> None:
    mounts.mount(operation.empty, operation.target, flags=mounts.MS_BIND)


def _make_directory(operation: op.MakeDirectory, _held: dict[str, int]) -> None:
    try:
        is_new = files.make_directory(operation.path, operation.mode)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(operation.path), exist_ok=True)
        is_new = files.make_directory(operation.path, operation.mode)
    if not is_new and not os.path.isdir(operation.path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), operation.path)


def _make_file(operation: op.MakeFile, _held: dict[str, int]) -> None:
    files.make_file(operation.path, operation.mode)


def _make_symlink(operation: op.MakeSymlink, _held: dict[str, int]) -> None:
    files.make_symlink(operation.path, operation.points_to)


def _copy_attributes(operation: op.CopyAttributes, _held: dict[str, int]) -> None:
    """Owner first, since chown clears set-id bits; times last, since everything else changes them."""
    source, target = operation.source, operation.target
    status = os.stat(source)
    if status.st_uid != os.geteuid() or status.st_gid != os.getegid():
        _try(os.chown, target, status.st_uid, status.st_gid)  # EPERM; EINVAL for an id not mapped here
    os.chmod(target, status.st_mode & 0o7777)
    for name in os.listxattr(source):
        if name.startswith(("trusted.overlay.", "user.overlay.")):
            continue  # marks of an overlay `source` is a layer of; they mean something else in an upper
        _try(lambda name=name: os.setxattr(target, name, os.getxattr(source, name)))  # ENOTSUP, EPERM
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_file(operation: op.CopyFile, _held: dict[str, int]) -> None:
    from jubako.layers.copy import copy_file  # 1 ms to import, and few machines mount single files

    copy_file(operation.source, operation.target)


def _try(act: Callable[..., None], *arguments: object) -> None:
    """Does what this file system, or this user, may not be able to; then it is left out."""
    try:
        act(*arguments)
    except OSError:
        return


def _move_mount(operation: op.MoveMount, _held: dict[str, int]) -> None:
    mounts.mount(operation.source, operation.target, flags=mounts.MS_MOVE)


def _detach_mount(operation: op.DetachMount, _held: dict[str, int]) -> None:
    mounts.umount2(operation.target, mounts.MNT_DETACH)


def _pivot_root(operation: op.PivotRoot, _held: dict[str, int]) -> None:
    files.chdir(operation.new_root)
    mounts.pivot_root(".", ".")
    mounts.umount2(".", mounts.MNT_DETACH)
    files.chdir("/")


def _place_secrets(operation: op.PlaceSecrets, _held: dict[str, int]) -> None:
    """On ramfs: what is in a tmpfs may be swapped out to a disk."""
    target = operation.target
    os.makedirs(target, exist_ok=True)
    mounts.mount(SOURCE, target, "ramfs", mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC, "mode=0755")
    for file in operation.files:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(os.path.join(target, file.name), flags, 0o400)
        try:
            left = file.content
            while left:
                left = left[os.write(fd, left) :]
            if (file.uid, file.gid) != (os.geteuid(), os.getegid()):
                os.fchown(fd, file.uid, file.gid)
        finally:
            os.close(fd)


# One entry per operation; the table's values take the operation their key names, which a type cannot say.
_PERFORM: dict[type[Any], Callable[[Any, dict[str, int]], None]] = {
    op.SetPropagation: _set_propagation,
    op.SetAttributes: _set_attributes,
    op.Bind: _bind,
    op.TakeTree: _take_tree,
    op.IdmapTree: _idmap_tree,
    op.PlaceTree: _place_tree,
    op.MountTmpfs: _mount_tmpfs,
    op.MountOverlay: _mount_overlay,
    op.MountProc: _mount_proc,
    op.MountSysfs: _mount_sysfs,
    op.MountDevpts: _mount_devpts,
    op.MaskDirectory: _mask_directory,
    op.MaskFile: _mask_file,
    op.MakeDirectory: _make_directory,
    op.MakeFile: _make_file,
    op.MakeSymlink: _make_symlink,
    op.CopyAttributes: _copy_attributes,
    op.CopyFile: _copy_file,
    op.MoveMount: _move_mount,
    op.DetachMount: _detach_mount,
    op.PivotRoot: _pivot_root,
    op.PlaceSecrets: _place_secrets,
}
