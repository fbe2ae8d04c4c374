"""Files of this machine: made, moved, copied, removed, and written aside until they are whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jubako.flow.targets.local_files import LocalFileSystem, atomic_file, discard, replace_directory
from jubako.flow.targets.target import FileAlreadyExists, MissingParentDirectory, NotADirectory


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path))


def test_mkdir_makes_parents_and_refuses_what_is_in_the_way(tmp_path: Path) -> None:
    fs = LocalFileSystem()
    fs.mkdir(str(tmp_path / "a" / "b"))
    fs.mkdir(str(tmp_path / "a" / "b"))
    (tmp_path / "file").write_text("")
    with pytest.raises(FileAlreadyExists):
        fs.mkdir(str(tmp_path / "a"), raise_if_exists=True)
    with pytest.raises(NotADirectory):
        fs.mkdir(str(tmp_path / "file"))
    with pytest.raises(MissingParentDirectory):
        fs.mkdir(str(tmp_path / "x" / "y"), parents=False)
    fs.mkdir(str(tmp_path / "x"), parents=False)
    assert fs.isdir(str(tmp_path / "x"))


def test_listdir_lists_files_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("")
    (tmp_path / "d").write_text("")
    assert sorted(LocalFileSystem().listdir(str(tmp_path))) == [f"{tmp_path}/a/b/c", f"{tmp_path}/d"]


def test_remove_of_a_link_to_a_directory_keeps_the_directory(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept")
    LocalFileSystem().remove(str(tmp_path / "link"))
    assert names(tmp_path) == ["kept"]


def test_atomic_file_is_a_binary_file(tmp_path: Path) -> None:
    with atomic_file(str(tmp_path / "a")) as file:
        file.write(b"x")
        assert names(tmp_path) == [os.path.basename(file.tmp_path)]
    assert (tmp_path / "a").read_bytes() == b"x"
    with pytest.raises(FileNotFoundError):
        atomic_file(str(tmp_path / "no" / "a"))


def test_replace_directory_puts_the_new_one_in_place_of_anything(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").write_text("")
    (tmp_path / "file").write_text("")
    for path in ("old", "file", "nothing"):
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "b").write_text("")
        replace_directory(str(tmp_path / "new"), str(tmp_path / path))
        assert names(tmp_path / path) == ["b"]
    assert names(tmp_path) == ["file", "nothing", "old"]


def test_discard_removes_whatever_is_there(tmp_path: Path) -> None:
    (tmp_path / "dir" / "deep").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("dir", "dir/", "file", "link", "nothing"):
        discard(f"{tmp_path}/{name}")
    assert names(tmp_path) == []
