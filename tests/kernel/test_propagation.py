from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

from bystander import bystander
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.mount_table import Mount, find_mount, parse_mountinfo, read_mount_table
from jubako.kernel.mounts import MS_BIND, attach, mount
from jubako.kernel.namespaces import CLONE_NEWNS, unshare
from jubako.kernel.process import set_no_new_privs
from jubako.kernel.propagation import (
    PROPAGATIONS,
    Propagation,
    View,
    find_members,
    masters_of,
    peers_of,
    read_other_views,
    set_propagation,
)
from jubako.kernel.seccomp import Rule, compile_filter, install_filter

if TYPE_CHECKING:
    from tests.conftest import Runner


class Seen(NamedTuple):
    """A mount, for comparing."""

    point: str
    pid: int


def at(path: str) -> Mount:
    found = find_mount(read_mount_table(), path)
    assert found is not None
    return found


@pytest.mark.box
@pytest.mark.parametrize("propagation", PROPAGATIONS)
@pytest.mark.parametrize("is_old_kernel", [False, True])
def test_setting_is_what_the_kernel_shows_afterwards(
    in_namespace: Runner, propagation: Propagation, is_old_kernel: bool
) -> None:
    def change() -> tuple[str, str, str]:
        for name in ("a", "b", "b/c"):
            os.mkdir(name)
        attach(tmpfs(), "a")
        set_propagation("a", "shared")
        mount("a", "b", "", MS_BIND)  # so that a slave has whom to receive from
        os.mkdir("b/c")
        attach(tmpfs(), "b/c")
        if is_old_kernel:
            set_no_new_privs()
            install_filter(compile_filter({"mount_setattr": Rule(errno.ENOSYS)}, os.uname().machine))
        set_propagation("b", propagation, recursive=True)
        return at("/mnt/a").propagation, at("/mnt/b").propagation, at("/mnt/b/c").propagation

    assert in_namespace(change) == ("shared", propagation, propagation)


@pytest.mark.box
def test_setting_without_recursion_leaves_what_is_below(in_namespace: Runner) -> None:
    def change() -> tuple[str, str]:
        os.mkdir("c")
        attach(tmpfs(), "c")
        set_propagation("/mnt", "shared")
        return at("/mnt").propagation, at("/mnt/c").propagation

    assert in_namespace(change) == ("shared", "private")


@pytest.mark.box
def test_slave_that_is_made_shared_goes_on_receiving(in_namespace: Runner) -> None:
    def change() -> tuple[bool, str]:
        os.mkdir("a")
        os.mkdir("b")
        attach(tmpfs(), "a")
        set_propagation("a", "shared")
        mount("a", "b", "", MS_BIND)
        set_propagation("b", "slave")
        set_propagation("b", "shared")
        return at("/mnt/b").master == at("/mnt/a").peer_group, at("/mnt/b").propagation

    assert in_namespace(change) == (True, "shared,slave")


@pytest.mark.box
def test_slave_of_nobody_is_private(in_namespace: Runner) -> None:
    def change() -> str:
        set_propagation("/mnt", "shared")
        set_propagation("/mnt", "slave")
        return at("/mnt").propagation

    assert in_namespace(change) == "private"


@pytest.mark.box
def test_setting_what_is_no_mount_point_is_einval(in_namespace: Runner) -> None:
    def change() -> int | None:
        os.mkdir("plain")
        with pytest.raises(OSError, match="mount_setattr") as caught:
            set_propagation("plain", "shared")
        return caught.value.errno

    assert in_namespace(change) == errno.EINVAL


@pytest.mark.box
def test_peers_are_found_here_and_in_the_namespaces_of_other_processes(in_namespace: Runner) -> None:
    def look() -> tuple[int, list[Seen], list[Seen]]:
        for name in ("a", "b", "s"):
            os.mkdir(name)
        attach(tmpfs(), "a")
        set_propagation("a", "shared")
        mount("a", "b", "", MS_BIND)
        mount("a", "s", "", MS_BIND)
        set_propagation("s", "slave")
        with bystander(lambda: unshare(CLONE_NEWNS)) as pid:
            table = read_mount_table()
            members = find_members(table, read_other_views(table))
            found = peers_of(at("/mnt/a"), members)
            masters = masters_of(at("/mnt/s"), members)
        return (
            pid,
            [Seen(peer.mount.mount_point, peer.pid) for peer in found],
            [Seen(peer.mount.mount_point, peer.pid) for peer in masters],
        )

    pid, peers, masters = in_namespace(look)
    elsewhere = [Seen("/mnt/a", pid), Seen("/mnt/b", pid)]
    assert peers == [Seen("/mnt/b", 0), *elsewhere]
    assert masters == [Seen("/mnt/a", 0), Seen("/mnt/b", 0), *elsewhere]


def test_members_are_told_apart_by_group() -> None:
    here = parse_mountinfo(
        "1 0 0:1 / / rw shared:1 - tmpfs x rw\n"
        "2 1 0:1 / /a rw shared:2 master:1 - tmpfs x rw\n"
        "3 1 0:1 / /b rw - tmpfs x rw\n"
    )
    there = parse_mountinfo("9 0 0:1 / / rw shared:2 - tmpfs x rw\n")
    members = find_members(here, [View(7, "sh", tuple(there))])
    root, shared, private = here
    assert peers_of(root, members) == []
    assert [(peer.mount.id, peer.pid, peer.process) for peer in peers_of(shared, members)] == [(9, 7, "sh")]
    assert [peer.mount.id for peer in masters_of(shared, members)] == [1]
    assert peers_of(private, members) == masters_of(private, members) == masters_of(root, members) == []
