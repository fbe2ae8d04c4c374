from __future__ import annotations

import os
import shutil

import pytest

from jubako.boxes.transactions.signature import (
    Signature,
    describe_change,
    take_signature,
    without_device,
)
from jubako.records import replace


def test_nothing_has_no_signature(tmp_path):
    (tmp_path / "file").touch()
    assert take_signature(str(tmp_path / "x")) is None
    assert take_signature(str(tmp_path / "file" / "x")) is None
    assert without_device(None) is None


def test_signature_is_of_a_link_itself(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    found = take_signature(str(tmp_path / "link"))
    assert found is not None
    assert (found.type, found.inode) == ("symlink", os.lstat(tmp_path / "link").st_ino)


@pytest.mark.parametrize("make", [lambda path: path.write_text("x"), lambda path: path.mkdir()])
def test_rename_and_chmod_leave_a_signature_as_it_was(tmp_path, make):
    make(tmp_path / "old")
    before = take_signature(str(tmp_path / "old"))
    os.chmod(tmp_path / "old", 0o700)
    os.rename(tmp_path / "old", tmp_path / "new")
    assert take_signature(str(tmp_path / "new")) == before


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "tree" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "er" / "leaf").write_text("1")
    (tmp_path / "tree" / os.fsdecode(b"\xff\n")).write_text("2")
    (tmp_path / "tree" / "link").symlink_to("deep")
    return tmp_path / "tree"


EDITS = {
    "leaf edited": lambda tree: (tree / "deep" / "er" / "leaf").write_text("12"),
    "leaf touched": lambda tree: os.utime(tree / "deep" / "er" / "leaf", ns=(1, 1)),
    "leaf added": lambda tree: (tree / "deep" / "new").touch(),
    "leaf removed": lambda tree: (tree / "deep" / "er" / "leaf").unlink(),
    "leaf renamed": lambda tree: (tree / "deep" / "er" / "leaf").rename(tree / "deep" / "er" / "lead"),
    "leaf moved up": lambda tree: (tree / "deep" / "er" / "leaf").rename(tree / "deep" / "leaf"),
    "link replaced": lambda tree: ((tree / "link").unlink(), (tree / "link").symlink_to("deeq")),
    "directory added": lambda tree: (tree / "deep" / "er" / "empty").mkdir(),
    "directory replaced": lambda tree: (
        shutil.copytree(tree / "deep", tree / "copy"),
        (tree / "deep").rename(tree.parent / "away"),
        (tree / "copy").rename(tree / "deep"),
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edit_anywhere_below_a_directory_changes_its_signature(tree, edit):
    before = take_signature(str(tree))
    EDITS[edit](tree)
    after = take_signature(str(tree))
    assert after != before
    assert (after.inode, after.type) == (before.inode, before.type)


def test_time_of_directories_alone_leaves_the_signature_as_it_was(tree):
    before = take_signature(str(tree))
    for path in (tree, tree / "deep"):
        os.utime(path, ns=(1, 1))
    (tree / "x").touch()
    (tree / "x").unlink()
    assert take_signature(str(tree)) == before


def test_directory_that_cannot_be_read_has_a_signature(in_user_child):
    def act() -> None:
        path = f"/tmp/signature-{os.getpid()}"
        os.makedirs(path + "/shut")
        os.chmod(path + "/shut", 0)
        try:
            assert take_signature(path) == take_signature(path)
        finally:
            os.chmod(path + "/shut", 0o700)
            shutil.rmtree(path)

    in_user_child(act)


def test_signature_below_a_descriptor_is_that_of_the_path(tree):
    fd = os.open(tree.parent, os.O_RDONLY)
    try:
        assert take_signature("tree", dir_fd=fd) == take_signature(str(tree))
        assert take_signature("none", dir_fd=fd) is None
    finally:
        os.close(fd)


def test_signature_without_device_differs_in_that_alone(tree):
    found = take_signature(str(tree))
    assert found.device != 0
    bare = without_device(found)
    assert (bare.device, bare.inode, bare.tree) == (0, found.inode, found.tree)


FILE = Signature(1, 2, 340, 1_262_401_445_678_901_234, "file")
DIRECTORY = Signature(1, 3, 0, 0, "directory", "digest")
LINK = Signature(1, 4, 5, 6, "symlink")
OLD_FILE = "it was a file of 340 bytes, modified 2010-01-02 03:04:05.678901234 UTC, and now "


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        (
            None,
            FILE,
            "there was nothing, and now there is a file of 340 bytes, modified 2010-01-02 03:04:05.678901234 UTC",
        ),
        (None, DIRECTORY, "there was nothing, and now there is a directory"),
        (FILE, None, OLD_FILE + "there is nothing"),
        (FILE, DIRECTORY, OLD_FILE + "it is a directory"),
        (FILE, LINK, OLD_FILE + "it is a symbolic link"),
        (
            FILE,
            replace(FILE, size=7),
            OLD_FILE + "the same file has 7 bytes, modified 2010-01-02 03:04:05.678901234 UTC",
        ),
        (
            FILE,
            replace(FILE, inode=9, mtime_ns=-1),
            OLD_FILE + "it is another file of 340 bytes, modified 1969-12-31 23:59:59.999999999 UTC",
        ),
        (
            FILE,
            replace(FILE, mtime_ns=2**62 * 1_000_000_000),
            OLD_FILE + f"the same file has 340 bytes, modified {2**62} seconds after 1970",
        ),
        (DIRECTORY, replace(DIRECTORY, tree="other"), "it was a directory, and now what it holds is not the same"),
        (DIRECTORY, replace(DIRECTORY, inode=9), "it was a directory, and now it is another one"),
        (LINK, replace(LINK, inode=9), "it was a symbolic link, and now it is another one"),
    ],
)
def test_change_is_described_with_both_versions_and_no_inode(was, now, words):
    assert describe_change(was, now) == words
