from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jubako.layers.content import digest_content
from jubako.layers.copy import copy_file, copy_tree
from jubako.layers.remove import remove_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path)


def make_tree(folder: Path) -> Path:
    top = folder / "tree"
    (top / "sub" / "shut").mkdir(parents=True)
    (top / "sub" / "leaf").write_bytes(bytes(3 << 20))
    (top / "sub" / "shut" / "inside").write_text("text")
    (top / "sub" / "link").symlink_to("leaf")
    (top / "secret").write_text("text")
    (top / "secret").chmod(0)
    (top / "sub" / "shut").chmod(0)
    return top


def test_copy_of_a_tree_has_its_digest_and_leaves_modes_alone(in_user_child):
    """Also for an ordinary user, who is shut out of some of it."""

    def act() -> None:
        folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
        try:
            tree, copy = make_tree(folder), folder / "copy"
            copy_tree(str(tree), str(copy))
            assert digest_content(str(copy)) == digest_content(str(tree))
            for each in (tree, copy):
                assert (each / "secret").stat().st_mode & 0o777 == 0
                assert (each / "sub" / "shut").stat().st_mode & 0o777 == 0
        finally:
            remove_tree(str(folder))

    in_user_child(act)


def test_copy_of_a_file_or_a_link_has_its_digest(tree, tmp_path):
    for name in ("leaf", "link"):
        copy_file(str(tree / "sub" / name), str(tmp_path / name))
        assert digest_content(str(tmp_path / name)) == digest_content(str(tree / "sub" / name))


def flip_last_byte(tree: Path) -> None:
    with open(tree / "sub" / "leaf", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")


def point_elsewhere(tree: Path) -> None:
    (tree / "sub" / "link").unlink()
    (tree / "sub" / "link").symlink_to("other")


CHANGES: list[Callable[[Path], object]] = [
    flip_last_byte,
    point_elsewhere,
    lambda tree: os.truncate(tree / "sub" / "leaf", 5),
    lambda tree: (tree / "secret").chmod(0o400),
    lambda tree: (tree / "secret").rename(tree / "renamed"),
    lambda tree: (tree / "sub" / "link").unlink(),
    lambda tree: (tree / "sub" / "more").touch(),
    lambda tree: (tree / "sub" / "shut").chmod(0o700),
    lambda tree: os.utime(tree / "sub" / "leaf", ns=(1, 1)),
]


@pytest.mark.parametrize("change", CHANGES)
def test_digest_tells_every_change(tree, change):
    before = digest_content(str(tree))
    times = {path: path.lstat() for path in (tree / "sub", tree / "sub" / "leaf", tree)}
    change(tree)
    if change is flip_last_byte:  # nothing but the content
        for path, found in times.items():
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert digest_content(str(tree)) != before
