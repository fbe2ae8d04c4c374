from __future__ import annotations

import os
import stat

import pytest

from jubako.boxes.state import StateRoot, find_network_type, find_state_root, open_state_root
from jubako.errors import HostError, InputError
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.mounts import MOUNT_ATTR_RDONLY, attach


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "/home/u/.local/state/jubako"),
        ({"XDG_STATE_HOME": "/x"}, "/x/jubako"),
        ({"XDG_STATE_HOME": "relative"}, "/home/u/.local/state/jubako"),
        ({"XDG_STATE_HOME": "/x", "JUBAKO_STATE": "/s/"}, "/s"),
        ({"JUBAKO_STATE": "~/state"}, "/home/u/state"),
        ({"JUBAKO_STATE": ""}, "/home/u/.local/state/jubako"),
    ],
)
def test_state_root_is_found_from_the_environment(environ, expected):
    assert find_state_root(environ, "/home/u") == expected


def test_relative_state_root_is_refused():
    with pytest.raises(InputError, match="not an absolute path"):
        find_state_root({"JUBAKO_STATE": "here"}, "/home/u")


def test_opened_state_root_is_private_and_opens_again(tmp_path):
    os.umask(0o022)
    first = open_state_root(str(tmp_path / "deep" / "state"))
    assert open_state_root(str(tmp_path / "deep" / "state")) == first
    for path in (first.path, first.stage_path, first.boxes_path, first.logs_path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert first.ledger_path == str(tmp_path / "deep" / "state" / "ledger.sqlite")


def test_path_of_an_opened_state_root_has_no_links(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert open_state_root(str(tmp_path / "link" / "state")) == StateRoot(str(tmp_path / "real" / "state"))


def test_state_root_on_a_read_only_file_system_is_a_host_error(in_namespace):
    def act() -> str:
        os.mkdir("ro")
        attach(tmpfs(attributes=MOUNT_ATTR_RDONLY), "ro")
        with pytest.raises(HostError) as caught:
            open_state_root(os.path.abspath("ro/state"))
        return caught.value.message

    assert "Read-only file system" in in_namespace(act)


def test_state_root_where_nothing_can_be_made_is_a_host_error(in_user_child):
    def act() -> None:
        with pytest.raises(HostError, match="cannot be made"):
            open_state_root("/proc/1/state")

    in_user_child(act)


def test_state_root_in_place_of_a_file_is_a_host_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match=r"Not a directory|File exists"):
        open_state_root(str(tmp_path / "file"))


def test_local_file_systems_are_no_network(tmp_path):
    assert find_network_type(str(tmp_path)) is None
    assert find_network_type("/dev/shm") is None
