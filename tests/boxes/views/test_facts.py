"""What is read about this machine and about the paths a job names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.views import facts
from jubako.boxes.views.facts import HostFacts, find_place, is_below, must_split, read_host_facts, read_known_paths
from jubako.kernel import filesystems, mounts
from jubako.records import replace

if TYPE_CHECKING:
    from tests.conftest import Runner


@pytest.fixture(scope="module")
def here() -> HostFacts:
    return read_host_facts([], {})


def test_host_facts_are_about_this_process(here: HostFacts) -> None:
    assert (here.uid, here.gid) == (os.geteuid(), os.getegid())
    assert here.mounts[0].mount_point
    assert "/dev/null" in [device.path for device in here.devices]


def test_hidden_places_are_real_and_existing(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "state")
    found = read_host_facts([str(tmp_path / "link"), str(tmp_path / "gone")], {})
    assert found.hidden == (str(tmp_path / "state"),)


@pytest.mark.parametrize(
    "value", ["{}", "unix:path={},guid=0f", "unix://{}", "{};window=7"], ids=["plain", "dbus", "docker", "list"]
)
def test_control_socket_is_found_in_any_form_of_variable(value: str, tmp_path: Path) -> None:
    path = tmp_path / "agent"
    path.touch()
    found = read_host_facts([], {"DBUS_SESSION_BUS_ADDRESS": value.format(path)})
    assert str(path) in found.control_sockets


def test_control_socket_that_is_elsewhere_or_hidden_anyway_is_left_out() -> None:
    found = read_host_facts([], {"DOCKER_HOST": "tcp://localhost:1", "SSH_AUTH_SOCK": "/run", "GPG_AGENT_INFO": "/usr"})
    assert not {"tcp://localhost:1", "/run", "/usr"} & {*found.control_sockets, *found.masked_directories}


def test_directory_of_the_displays_sockets_is_hidden_as_a_directory(in_namespace: Runner) -> None:
    def look() -> tuple[bool, bool]:
        mounts.attach(filesystems.tmpfs(), "/tmp")
        os.mkdir("/tmp/.X11-unix")
        found = read_host_facts([], {})
        return "/tmp/.X11-unix" in found.masked_directories, "/tmp/.X11-unix" in found.control_sockets

    assert in_namespace(look) == (True, False)


def test_place_of_an_existing_directory_is_its_real_path(tmp_path: Path, here: HostFacts) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    place = find_place(str(tmp_path / "link"), "x", here)
    assert (place.path, place.rest, place.target, place.writable) == (
        str(tmp_path / "real"),
        "",
        str(tmp_path / "real"),
        True,
    )


def test_place_of_what_does_not_exist_is_the_nearest_directory_and_the_rest(tmp_path: Path, here: HostFacts) -> None:
    (tmp_path / "file").touch()
    place = find_place(str(tmp_path / "file" / "a" / "b"), "x", here)
    assert (place.path, place.rest) == (str(tmp_path), "file/a/b")
    assert place.target == str(tmp_path / "file" / "a" / "b")


def test_place_that_somebody_else_owns_is_not_writable(in_user_child: Runner, here: HostFacts) -> None:
    writable = in_user_child(lambda: (os.geteuid(), find_place("/etc", "x", here).writable))
    assert writable[1] is (writable[0] == 0)


def test_directory_must_be_split_only_in_a_user_namespace_with_mounts_below(here: HostFacts) -> None:
    confined = replace(here, in_user_namespace=True)
    assert must_split("/", confined)
    assert not must_split("/etc", confined)
    assert not must_split("/", replace(here, in_user_namespace=False))


@pytest.mark.box
def test_place_to_be_split_lists_its_directories(in_namespace: Runner) -> None:
    def look() -> tuple[str, ...]:
        for name in ("b", "a", "mounted"):
            Path(name).mkdir()
        Path("file").touch()
        mounts.attach(filesystems.tmpfs(), "mounted")
        confined = replace(read_host_facts([], {}), in_user_namespace=True)
        return find_place("/mnt", "x", confined).children

    assert in_namespace(look) == ("a", "b", "mounted")


@pytest.mark.box
def test_disk_below_run_is_found_once_and_memory_there_is_not(in_namespace: Runner) -> None:
    def look() -> tuple[str, ...]:
        mounts.attach(filesystems.tmpfs(), "/run")
        os.makedirs("/run/media/usb")
        os.makedirs("/run/memory")
        mounts.attach(filesystems.tmpfs(), "/run/memory")
        table = read_host_facts([], {})
        inner = next(one for one in table.mounts if one.mount_point == "/run/memory")
        usb = replace(inner, id=1000, mount_point="/run/media", fstype="ext4", device=12345)
        below = replace(usb, id=1001, mount_point="/run/media/usb", parent_id=1000)
        around = next(one for one in table.mounts if one.mount_point == "/run")
        again = replace(around, id=1002, mount_point="/run/netns", fstype="ext4")
        return facts._find_run_mounts((*table.mounts, usb, below, again))

    assert in_namespace(look) == ("/run/media",)


def test_known_paths_are_real_once_and_parents_first(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "file").touch()
    found = read_known_paths([str(tmp_path / name) for name in ("file", "b/c", "a", "b")])
    assert [(Path(one.path).relative_to(tmp_path).as_posix(), one.is_directory) for one in found] == [
        ("b", True),
        ("b/c", True),
        ("file", False),
    ]


def test_known_path_that_is_missing_is_named_as_it_was_asked_for() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        read_known_paths(["/no/such/path"])
    assert caught.value.filename == "/no/such/path"


def test_is_below_goes_by_whole_names() -> None:
    assert is_below("/a/b", "/a")
    assert is_below("/a", "/a")
    assert is_below("/a", "/")
    assert not is_below("/ab", "/a")
