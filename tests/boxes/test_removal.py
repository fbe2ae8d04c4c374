"""Removing what a box made: closed directories, deep ones, names of any bytes, and nothing that is only pointed at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jubako.boxes.removal import remove_tree


def test_remove_tree_with_closed_directories_and_hostile_names_removes_all(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "work/work/incompat").mkdir(parents=True)
    (top / "full").mkdir()
    (top / "full/file").write_text("x")
    for name in (b"new\nline", b"\xff\xfe", b"-rf", b" ", b"\\"):
        Path(os.fsdecode(os.fsencode(top) + b"/" + name)).write_bytes(b"")
    os.mkfifo(top / "fifo")
    (top / "work/work/incompat").chmod(0)
    (top / "work/work").chmod(0)
    (top / "full").chmod(0o500)
    top.chmod(0)

    remove_tree(str(top))

    assert list(tmp_path.iterdir()) == []


def test_remove_tree_with_links_does_not_follow_them(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(outside)
    (top / "dangling").symlink_to("/nowhere")

    remove_tree(str(top))

    assert (outside / "precious").read_text() == "x"
    assert not top.exists()


def test_remove_tree_on_a_link_refuses_and_leaves_its_target(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(OSError):
        remove_tree(str(tmp_path / "link"))
    assert (tmp_path / "real").is_dir()


def test_remove_tree_deeper_than_a_path_can_say_removes_all(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("directory", dir_fd=fd)
        below = os.open("directory", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)

    remove_tree(str(top))

    assert not top.exists()


def test_remove_tree_that_is_gone_does_nothing(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []
