from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from jubako.layers.remove import remove_tree


def test_removing_what_is_not_there_does_nothing(tmp_path):
    remove_tree(str(tmp_path / "nothing"))
    assert os.listdir(tmp_path) == []


def test_tree_removed_by_several_at_once_is_gone_and_nobody_complains(tmp_path):
    for folder in range(40):
        (tmp_path / "tree" / str(folder) / "in").mkdir(parents=True)
        for file in range(40):
            (tmp_path / "tree" / str(folder) / "in" / str(file)).touch()
    ready, go = os.pipe()
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(go)
                os.read(ready, 1)  # until the other end is closed everywhere
                remove_tree(str(tmp_path / "tree"))
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    os.close(ready)
    os.close(go)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0, 0]
    assert os.listdir(tmp_path) == []


def test_removed_link_leaves_what_it_points_to(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "direct").symlink_to(tmp_path / "kept")
    remove_tree(str(tmp_path / "tree"))
    remove_tree(str(tmp_path / "direct"))
    assert os.listdir(tmp_path) == ["kept"]
    assert (tmp_path / "kept" / "file").read_text() == "x"


def test_directories_that_shut_out_their_owner_are_removed(in_user_child):
    def act() -> None:
        top = Path(f"/tmp/remove-{os.getpid()}")
        (top / "work" / "work").mkdir(parents=True)
        (top / "listless" / "x").mkdir(parents=True)
        (top / "fixed").mkdir()
        (top / "fixed" / "file").touch()
        (top / "work" / "work").chmod(0)
        (top / "listless").chmod(0o300)
        (top / "fixed").chmod(0o500)
        remove_tree(str(top))
        assert not top.exists()

    in_user_child(act)


def test_depth_beyond_paths_recursion_and_descriptors_is_removed(tmp_path, in_child):
    def act() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        for branch in ("one", "two"):
            (tmp_path / "tree" / branch).mkdir(parents=True)
            inner = os.open(tmp_path / "tree" / branch, os.O_RDONLY)
            for _ in range(1500):
                os.mkdir("deep", dir_fd=inner)
                os.mkdir(".deep-0", dir_fd=inner)
                deeper = os.open("deep", os.O_RDONLY, dir_fd=inner)
                os.close(inner)
                inner = deeper
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=inner))
            os.close(inner)
        remove_tree(str(tmp_path / "tree"))

    in_child(act)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("entries", [0, 1, 5000])
def test_directory_of_many_entries_is_removed(tmp_path, entries):
    (tmp_path / "file").touch()
    (tmp_path / "tree").mkdir()
    for number in range(entries):
        os.link(tmp_path / "file", tmp_path / "tree" / str(number))
    remove_tree(str(tmp_path / "tree"))
    assert os.listdir(tmp_path) == ["file"]


def test_name_below_a_descriptor_is_removed(tmp_path):
    (tmp_path / "tree" / "inner").mkdir(parents=True)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        remove_tree("tree", dir_fd=fd)
    finally:
        os.close(fd)
    assert os.listdir(tmp_path) == []


def test_entry_that_cannot_be_removed_is_an_error(in_user_child):
    def act() -> None:
        with pytest.raises(OSError, match="cpuinfo"):
            remove_tree("/proc/cpuinfo")

    in_user_child(act)
