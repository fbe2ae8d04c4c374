from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bystander import bystander
from jubako.kernel.filesystems import make_filesystem, tmpfs
from jubako.kernel.mount_table import Mount, read_mount_table
from jubako.kernel.mounts import (
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_REC,
    MS_REMOUNT,
    MS_SHARED,
    MS_SLAVE,
    MS_STRICTATIME,
    MS_UNBINDABLE,
    attach,
    mount,
)
from jubako.kernel.namespaces import CLONE_NEWNS, unshare
from jubako.kernel.process import set_no_new_privs
from jubako.kernel.seccomp import Rule, compile_filter, install_filter
from jubako.kernel.statmount import ask_mounts, listmount, look_at_mounts, statmount
from jubako.records import replace

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box
HOSTILE = "a\\b,c:d=e \n\t\\040#\udcff"
RELEASE = tuple(int(word) for word in os.uname().release.split("-")[0].split(".")[:2])


def both() -> tuple[list[Mount], list[Mount]]:
    asked = ask_mounts()
    assert (asked is not None) == (RELEASE >= (6, 15))
    return [replace(one, unique_id=0) for one in asked or ()] or read_mount_table(), read_mount_table()


def test_asking_and_reading_agree_on_this_machine() -> None:
    asked, read = both()
    assert asked == read


def test_asking_and_reading_agree_on_every_kind_of_mount(in_namespace: Runner) -> None:
    def compare() -> tuple[list[Mount], list[Mount]]:
        attributes = (MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW)
        for number, attribute in enumerate((*attributes, MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOATIME)):
            os.mkdir(f"attribute{number}")
            attach(tmpfs(attributes=attribute), f"attribute{number}")
        for name in (HOSTILE, "strict", "gone", "clone", "slave", "both", "unbindable", "deep/" * 500 + "end"):
            os.makedirs(name)
        attach(make_filesystem("tmpfs", {"size": "1m"}), HOSTILE)
        mount(HOSTILE, "strict", "", MS_BIND)
        mount("", "strict", "", MS_BIND | MS_REMOUNT | MS_STRICTATIME)
        mount("with blank\\", "deep/" * 500 + "end", "tmpfs", 0, "mode=700")
        for name in ("slave", "both", "unbindable"):
            mount("", HOSTILE, "", MS_SHARED)
            mount(HOSTILE, name, "", MS_BIND)
        mount("", "slave", "", MS_SLAVE)
        mount("", "both", "", MS_SLAVE)
        mount("", "both", "", MS_SHARED)
        mount("", "unbindable", "", MS_UNBINDABLE)
        os.makedirs(f"{HOSTILE}/sub")
        mount(f"{HOSTILE}/sub", "clone", "", MS_BIND)
        os.rmdir(f"{HOSTILE}/sub")
        Path("file").touch()
        mount("/proc/self/ns/net", "file", "", MS_BIND)
        return both()

    asked, read = in_namespace(compare)
    assert asked == read
    kinds = {one.propagation for one in read}
    assert {"private", "shared", "slave", "shared,slave", "unbindable"} <= kinds
    assert any(one.is_deleted for one in read)
    assert any(one.root.startswith("net:[") for one in read)


def test_asking_and_reading_agree_on_whom_one_receives_through_in_a_chroot(in_namespace: Runner) -> None:
    def compare() -> tuple[list[Mount], list[Mount]]:
        for name in ("jail/proc", "jail/1", "jail/3", "2"):
            os.makedirs(name)
        attach(tmpfs(), "jail/1")
        mount("", "jail/1", "", MS_SHARED)
        mount("jail/1", "2", "", MS_BIND)
        mount("", "2", "", MS_SLAVE)
        mount("", "2", "", MS_SHARED)
        mount("2", "jail/3", "", MS_BIND)
        mount("", "jail/3", "", MS_SLAVE)
        mount("/proc", "jail/proc", "", MS_BIND | MS_REC)
        os.chroot("jail")
        return both()

    asked, read = in_namespace(compare)
    assert asked == read
    (third,) = [one for one in read if one.mount_point == "/3"]
    (first,) = [one for one in read if one.mount_point == "/1"]
    assert third.master not in (0, first.peer_group)
    assert third.dominant == first.peer_group


def test_asking_and_reading_agree_on_more_mounts_than_one_call_lists(in_namespace: Runner) -> None:
    def compare() -> tuple[list[Mount], list[Mount]]:
        for number in range(600):
            os.mkdir(str(number))
            mount("/mnt", str(number), "", MS_BIND)
        return both()

    asked, read = in_namespace(compare)
    assert len(read) > 600
    assert asked == read


def test_statmount_of_no_mount_is_enoent() -> None:
    if RELEASE >= (6, 8):
        with pytest.raises(OSError, match="statmount") as caught:
            statmount(1 << 62)
        assert caught.value.errno == errno.ENOENT


def test_listmount_goes_on_behind_the_last_one() -> None:
    if RELEASE >= (6, 8):
        everything = listmount(0xFFFFFFFFFFFFFFFF)
        assert everything == sorted(set(everything))
        assert listmount(0xFFFFFFFFFFFFFFFF, everything[0], 2) == everything[1:3]


@pytest.mark.parametrize("refusal", [errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize("name", ["listmount", "statmount"])
def test_where_the_calls_are_refused_the_text_is_read(in_child: Runner, name: str, refusal: int) -> None:
    def look() -> tuple[list[Mount], list[Mount]]:
        set_no_new_privs()
        install_filter(compile_filter({name: Rule(refusal)}, os.uname().machine))
        assert ask_mounts() is None
        return look_at_mounts(), read_mount_table()

    looked, read = in_child(look)
    assert looked == read


def test_mounts_of_another_process_are_those_it_sees(in_namespace: Runner) -> None:
    def look() -> tuple[bool, bool]:
        def prepare() -> None:
            unshare(CLONE_NEWNS)
            attach(tmpfs(), "only-there")

        os.mkdir("only-there")
        with bystander(prepare) as pid:
            theirs = any(one.mount_point == "/mnt/only-there" for one in look_at_mounts(pid))
        ours = any(one.mount_point == "/mnt/only-there" for one in look_at_mounts())
        return ours, theirs

    assert in_namespace(look) == (False, True)


def test_mounts_of_no_process_are_enoent() -> None:
    with pytest.raises(FileNotFoundError):
        look_at_mounts(2**22 + 1)
