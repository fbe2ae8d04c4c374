"""What may be given away as it is: nothing that must not get out of a box, nor overlayfs's notes after `take_off`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jubako.layers.release import Released, take_off


def look(path: Path) -> Released:
    released = Released()
    released.look(str(path), os.lstat(path))
    return released


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("x")
    return path


def test_plain_file_with_attributes_of_the_users_may_go(file: Path) -> None:
    os.setxattr(file, "user.mine", b"1")
    assert look(file) == Released()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: os.chmod(path, 0o4755),
        lambda path: os.chmod(path, 0o2755),
        lambda path: os.link(path, f"{path}2"),
        lambda path: os.setxattr(path, "user.overlay.metacopy", b""),
        lambda path: os.setxattr(path, "user.overlay.whiteout", b""),
        lambda path: os.setxattr(path, "user.overlay.redirect", b"x"),
        lambda path: (path.unlink(), os.mkfifo(path)),
    ],
)
def test_what_must_not_get_out_as_it_is_is_an_obstacle(file: Path, spoil: Callable[[Path], object]) -> None:
    spoil(file)
    assert look(file).obstacle


def test_setgid_bit_of_a_directory_is_none(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o2755)
    assert not look(tmp_path).obstacle


def test_notes_are_taken_off_also_from_what_is_read_only(file: Path) -> None:
    os.setxattr(file, "user.overlay.origin", b"")
    os.setxattr(file, "user.mine", b"1")
    os.chmod(file, 0o444)
    released = look(file)
    assert released.notes == [(str(file), ("user.overlay.origin",))]
    for _ in range(2):
        for path, notes in released.notes:
            take_off(path, notes)
        assert os.listxattr(file) == ["user.mine"]
    assert os.stat(file).st_mode & 0o777 == 0o444
