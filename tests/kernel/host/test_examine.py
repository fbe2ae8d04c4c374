from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.kernel.filesystems import tmpfs
from jubako.kernel.host.ability import Ability, HostReport
from jubako.kernel.host.examine import examine_host
from jubako.kernel.mounts import MOUNT_ATTR_RDONLY, attach
from jubako.kernel.process import set_no_new_privs
from jubako.kernel.seccomp import default_filter, install_filter

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box
SUBJECTS = [
    *("boxes", "surroundings", "kernel", "user namespaces", "overlays", "resources", "files", "devices"),
    *("programs", "time"),
]


def find(report: HostReport, name: str) -> Ability:
    (found,) = (ability for ability in report.abilities if ability.name == name)
    return found


def test_report_explains_each_ability(in_user_child: Runner) -> None:
    report = in_user_child(lambda: examine_host({"here": "/", "root": "/"}, {"scratch": "/dev/shm"}, environment={}))
    names = [ability.name for ability in report.abilities]
    assert report.can_box
    assert (names[0], len(names)) == ("boxes", len(set(names)))
    assert {"user namespaces", "seccomp", "control groups", "id ranges", "here", "scratch"} <= set(names)
    assert [name for name in names if name.startswith("durability")] == ["durability of /"]
    assert {ability.about for ability in report.abilities} == set(SUBJECTS)
    assert all(ability.meaning and ability.why for ability in report.abilities)
    assert all(bool(ability.cure) == (ability.verdict != "yes") for ability in report.abilities)


def test_report_on_places_tells_full_small_and_forbidden_ones(in_namespace: Runner) -> None:
    def probe() -> HostReport:
        for name in ("small", "full", "read-only", "without inodes"):
            Path(name).mkdir()
        attach(tmpfs(size_bytes=1 << 20), "small")
        attach(tmpfs(size_bytes=4096), "full")
        Path("full/file").write_bytes(b"x" * 4096)
        attach(tmpfs(attributes=MOUNT_ATTR_RDONLY), "read-only")
        places = {name: f"/mnt/{name}/not/made/yet" for name in ("small", "full", "read-only")}
        return examine_host(places, {}, environment={})

    report = in_namespace(probe)
    assert (find(report, "small").verdict, find(report, "small").meaning[:10]) == ("limited", "1 MiB free")
    assert find(report, "full").verdict == "no"
    assert find(report, "read-only").verdict == "no"
    assert "is memory" in find(report, "durability of /mnt/small").meaning


def test_report_where_the_state_folder_can_be_the_top_of_an_overlay_leaves_nothing_there(in_namespace: Runner) -> None:
    def probe() -> tuple[HostReport, list[str]]:
        os.mkdir("state")
        return examine_host({"state folder": "/mnt/state/not/yet"}, {}, environment={}), os.listdir("state")

    report, left = in_namespace(probe)
    found = find(report, "overlay in the state folder")
    assert (found.verdict, found.meaning) == ("yes", "/mnt/state (tmpfs) can be the top of an overlay")
    assert left == []


def test_report_of_a_process_under_a_filter_says_what_refuses_and_the_cure(in_user_child: Runner) -> None:
    def probe() -> HostReport:
        set_no_new_privs()
        install_filter(default_filter())
        return examine_host({}, {}, environment={"container": "podman"})

    report = in_user_child(probe)
    boxes = find(report, "boxes")
    assert (report.can_box, report.container, boxes.verdict) == (False, "podman", "no")
    assert "a system call filter of the container refuses" in boxes.meaning
    assert boxes.cure == "start the container with --security-opt seccomp=unconfined"
    assert "system call filter" in find(report, "container").meaning
    assert find(report, "new privileges").verdict == "limited"


def test_report_inside_a_box_says_so_whatever_could_be_tried(in_user_child: Runner) -> None:
    report = in_user_child(lambda: examine_host({}, {}, environment={}, box_id="3f9c01ab"))
    assert not report.can_box
    assert find(report, "boxes").meaning == "tasks cannot run in boxes: this is box 3f9c01ab, and boxes do not nest"
    assert find(report, "box").meaning.startswith("runs in box 3f9c01ab")
