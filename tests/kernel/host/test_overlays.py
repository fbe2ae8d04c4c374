from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.filesystems import make_filesystem, tmpfs
from jubako.kernel.host.ability import Ability
from jubako.kernel.host.overlays import look_at_top
from jubako.kernel.mount_table import read_mount_table
from jubako.kernel.mounts import MOUNT_ATTR_RDONLY, attach
from jubako.kernel.overlay import Overlay, mount_overlay

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box


def look(path: str) -> list[Ability]:
    """As a process that is in a user namespace of its own already, or is root."""
    in_user_namespace = Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]
    return list(look_at_top("place", path, read_mount_table(), with_user_namespace=in_user_namespace))


def test_top_on_an_overlay_is_refused_with_the_way_out_and_nothing_is_left(in_namespace: Runner) -> None:
    def probe() -> tuple[list[Ability], list[str]]:
        for name in ("low", "up", "work", "merged"):
            os.mkdir(name)
        mount_overlay(Overlay(("/mnt/low",), "/mnt/up", "/mnt/work", userxattr=os.geteuid() != 0), "/mnt/merged")
        return look("/mnt/merged"), os.listdir("/mnt/merged")

    (found,), left = in_namespace(probe)
    assert found.verdict == "no"
    assert found.meaning.endswith("an overlay cannot be the top of another")
    assert "volume or a tmpfs" in found.cure
    assert left == []


def test_top_on_a_file_system_without_inodes_says_that_there_is_no_room(in_namespace: Runner) -> None:
    def probe() -> tuple[list[Ability], list[str]]:
        os.mkdir("small")
        attach(make_filesystem("tmpfs", {"nr_inodes": "4", "mode": "700"}), "small")
        return look("/mnt/small"), os.listdir("/mnt/small")

    (found,), left = in_namespace(probe)
    assert (found.verdict, found.meaning) == (
        "no",
        "/mnt/small cannot hold what boxes write: No space left on device",
    )
    assert left == []


def test_top_in_a_folder_that_cannot_be_written_is_not_tried(in_namespace: Runner) -> None:
    def probe() -> list[Ability]:
        os.mkdir("closed")
        attach(tmpfs(attributes=MOUNT_ATTR_RDONLY), "closed")
        return look("/mnt/closed")

    assert in_namespace(probe) == []


def test_what_a_killed_doctor_left_is_removed_by_the_next(in_namespace: Runner) -> None:
    child = subprocess.Popen(["true"])
    child.wait()

    def probe() -> list[str]:
        os.makedirs(f".jubako-doctor-{child.pid}/work/work")
        os.chmod(f".jubako-doctor-{child.pid}/work/work", 0)
        os.mkdir(".jubako-doctor-1")  # of one that lives
        os.mkdir(".jubako-doctor-notes")
        look("/mnt")
        return sorted(os.listdir("."))

    assert in_namespace(probe) == [".jubako-doctor-1", ".jubako-doctor-notes"]
