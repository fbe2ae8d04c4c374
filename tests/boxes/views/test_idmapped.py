"""Trees of mounts whose owners are mapped, by a root that has the rights and by one that lacks them."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.mounts import IdMap
from jubako.boxes.views.apply import apply_operations
from jubako.boxes.views.idmapped import explain_refusal
from jubako.boxes.views.operations import IdmapTree, PlaceTree, TakeTree
from jubako.errors import HostError
from jubako.kernel import mounts, namespaces
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.idmap import IdRange, enter_user_namespace
from jubako.kernel.mount_table import Mount
from jubako.kernel.user_namespaces import open_user_namespace

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = [pytest.mark.box, pytest.mark.skipif(os.geteuid() != 0, reason="only root may map the owners of files")]

MAP = IdMap(uids=[(5, 1000, 10)])
CURE = "Bind directories of ext4, xfs or btrfs, or, from Linux 6.3 on, tmpfs, with nothing else mounted below."


def take_and_map(source: str, idmap: IdMap = MAP) -> list[TakeTree | IdmapTree | PlaceTree]:
    return [TakeTree("t", source), IdmapTree("t", source, idmap), PlaceTree("t", "/mnt/there")]


def two_mounts() -> None:
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mounts.mount("none", "/", flags=mounts.MS_REC | mounts.MS_PRIVATE)
    mounts.attach(tmpfs(), "/mnt")
    for path in ("/mnt/data", "/mnt/there"):
        os.mkdir(path)
    mounts.attach(tmpfs(), "/mnt/data")
    os.mkdir("/mnt/data/below")
    mounts.attach(tmpfs(), "/mnt/data/below")


def test_tree_shows_other_owners_in_its_place_and_the_old_ones_where_it_was(in_child: Runner) -> None:
    def use() -> list[tuple[int, int]]:
        two_mounts()
        names = ("data/file", "data/below/file")
        for name in names:
            with open(f"/mnt/{name}", "w", encoding="utf-8") as file:
                os.fchown(file.fileno(), 7, 8)
        apply_operations(take_and_map("/mnt/data"))
        found = [os.stat(f"/mnt/{name}") for name in (*names, "there/file", "there/below/file")]
        return [(one.st_uid, one.st_gid) for one in found]

    assert in_child(use) == [(7, 8), (7, 8), (1002, 8), (1002, 8)]


def test_refused_tree_leaves_no_descriptor_and_no_mount(in_child: Runner) -> None:
    def use() -> tuple[str, bool]:
        two_mounts()
        before = os.listdir("/proc/self/fd")
        with pytest.raises(HostError) as caught:
            apply_operations(take_and_map("/proc"))
        return caught.value.message, os.listdir("/proc/self/fd") == before and os.listdir("/mnt/there") == []

    said = "the owners of the files at /proc cannot be mapped: /proc is proc, which this kernel does not map"
    assert in_child(use) == (said, True)


def test_root_of_another_user_namespace_is_told_whose_the_file_system_is(in_child: Runner) -> None:
    def use() -> tuple[str, str]:
        two_mounts()
        ids = (IdRange(0, 0, 0xFFFFFFFF),)
        namespaces.setns(open_user_namespace(ids, ids), namespaces.CLONE_NEWUSER)
        namespaces.unshare(namespaces.CLONE_NEWNS)
        with pytest.raises(HostError) as caught:
            apply_operations(take_and_map("/mnt/data/below"))
        return caught.value.message, caught.value.hint

    assert in_child(use) == (
        "the owners of the files at /mnt/data/below cannot be mapped: the tmpfs at /mnt/data/below was mounted in"
        " another user namespace, where this root has no rights",
        "Mount it as root of the machine, outside of containers.",
    )


def test_root_without_the_ids_is_told_what_it_lacks(in_child: Runner) -> None:
    def use() -> tuple[str, str]:
        two_mounts()
        enter_user_namespace(namespaces.CLONE_NEWNS)
        with pytest.raises(HostError) as caught:
            apply_operations(take_and_map("/mnt/data"))
        return caught.value.message, caught.value.hint

    message, hint = in_child(use)
    assert message.startswith("no user namespace can be made that holds the ids of /mnt/data: ")
    assert hint == (
        "Root must be able to make user namespaces and have all of these ids itself (/proc/self/uid_map, gid_map)."
    )


def mounted(point: str, fstype: str, options: str = "rw") -> Mount:
    return Mount(1, 0, 0, "/", point, options, fstype, "x", "rw")


@pytest.mark.parametrize(
    ("code", "refused", "why", "cure"),
    [
        (errno.EINVAL, mounted("/", "nfs4"), "/ is nfs4, which this kernel does not map", CURE),
        (errno.EINVAL, mounted("/", "overlay"), "/ is an overlay, which the kernel does not map", CURE),
        (errno.EPERM, mounted("/a", "ext4", "rw,idmapped"), "/a is mapped already", "Bind it from where"),
        (
            errno.EPERM,
            mounted("/a", "ext4"),
            "the ext4 at /a was mounted in another user namespace, where this root has no rights",
            "Mount it as root",
        ),
        (errno.EINVAL, None, "[Errno 22] Invalid argument", CURE),
    ],
)
def test_refusal_names_the_mount_that_holds_the_files(code: int, refused: Mount | None, why: str, cure: str) -> None:
    error = explain_refusal(OSError(code, os.strerror(code)), "/a", refused)
    assert error.message == f"the owners of the files at /a cannot be mapped: {why}"
    assert error.hint.startswith(cure)


def test_refusal_of_a_mount_below_says_that_it_is_in_the_way() -> None:
    error = explain_refusal(OSError(errno.EINVAL, "x"), "/a", mounted("/a/b", "fuse.sshfs"))
    assert error.message == (
        "the owners of the files at /a cannot be mapped, for /a/b lies below it: /a/b is fuse.sshfs, which this kernel"
        " does not map"
    )
