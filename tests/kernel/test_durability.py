from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.durability import Durability, assess_durability, is_network_type, read_durability
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.mount_table import Mount, parse_mountinfo
from jubako.kernel.mounts import attach

if TYPE_CHECKING:
    from tests.conftest import Runner


def mount_of(fstype: str, super_options: str = "rw", *, at: str = "/data") -> Mount:
    (mount,) = parse_mountinfo(f"30 1 8:1 / {at} rw - {fstype} /dev/sda1 {super_options}")
    return mount


@pytest.mark.parametrize("fstype", ["xfs", "btrfs", "zfs", "ext3"])
def test_ordered_file_systems_hold_full(fstype: str) -> None:
    assert assess_durability(mount_of(fstype)) == Durability("/data", fstype, True)


def test_ext4_with_a_journal_holds_full() -> None:
    assert assess_durability(mount_of("ext4"), frozenset({"rw", "barrier", "data=ordered"})).holds_full


@pytest.mark.parametrize(
    ("mount", "ext4_options", "reason"),
    [
        (mount_of("ext4"), frozenset({"rw", "barrier"}), "no journal"),
        (mount_of("ext4"), frozenset({"nobarrier", "data=ordered"}), "without barriers"),
        (mount_of("ext4"), None, "cannot be read"),
        (mount_of("xfs", "rw,nobarrier"), None, "without barriers"),
        (mount_of("tmpfs"), None, "is memory"),
        (mount_of("nfs4"), None, "another machine"),
        (mount_of("fuse.sshfs"), None, "another machine"),
        (mount_of("vfat"), None, "no journal"),
        (mount_of("overlay", "rw,lowerdir=/l,fsync=volatile"), None, "volatile"),
        (mount_of("overlay", "rw,lowerdir=/l"), None, "does not say"),
        (mount_of("brandnewfs"), None, "not known"),
    ],
)
def test_others_say_why_they_cannot(mount: Mount, ext4_options: frozenset[str] | None, reason: str) -> None:
    durability = assess_durability(mount, ext4_options)
    assert not durability.holds_full
    assert reason in durability.why_not
    assert durability.cure


def test_cure_of_a_root_without_journal_is_one_that_can_be_done() -> None:
    plain = frozenset({"rw"})
    root, other = (assess_durability(mount_of("ext4", at=at), plain).cure for at in ("/", "/data"))
    assert "rescue system" in root
    assert other.startswith("umount /data")


def test_network_types_are_known() -> None:
    assert is_network_type("nfs4")
    assert not is_network_type("ext4")


def test_read_durability_of_a_path_that_is_not_there_yet_takes_its_file_system() -> None:
    assert read_durability("/dev/shm/not/there/yet").fstype == "tmpfs"


@pytest.mark.box
def test_read_durability_of_a_new_tmpfs_is_memory(in_namespace: Runner) -> None:
    def read() -> Durability:
        Path("t").mkdir()
        attach(tmpfs(), "t")
        return read_durability("/mnt/t")

    durability = in_namespace(read)
    assert (durability.mount_point, durability.holds_full) == ("/mnt/t", False)


if os.geteuid() == 0:  # only root may mount a loop device

    @pytest.mark.box
    @pytest.mark.parametrize(("journal", "expected"), [("has_journal", True), ("^has_journal", False)])
    def test_read_durability_tells_a_real_ext4_with_a_journal_from_one_without(
        in_child: Runner, tmp_path: Path, journal: str, expected: bool
    ) -> None:
        image, place = tmp_path / "image", tmp_path / "place"
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(16 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-O", journal, image], check=True)

        def read() -> Durability:
            subprocess.run(["mount", "-o", "loop", image, place], check=True)
            try:
                return read_durability(str(place))
            finally:
                subprocess.run(["umount", place], check=True)

        durability = in_child(read)
        assert (durability.fstype, durability.holds_full) == ("ext4", expected)
