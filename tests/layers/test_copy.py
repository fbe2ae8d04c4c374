from __future__ import annotations

import os
import socket
import stat
import struct
import tempfile
from pathlib import Path

import pytest

from jubako.layers.copy import copy_file, copy_tree, sanitize_tree
from jubako.layers.remove import remove_tree

CAPABILITY = "security.capability"
CAP_NET_RAW = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)  # VFS_CAP_REVISION_2, effective
ACL_NAME = "system.posix_acl_access"


def make_acl(gid: int) -> bytes:
    """An access ACL that goes with mode 0640: the owner, its group, the group `gid`, the mask, the others."""
    entries = ((1, 6, -1), (4, 4, -1), (8, 4, gid), (0x10, 4, -1), (0x20, 0, -1))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


def is_root() -> bool:
    return os.geteuid() == 0


@pytest.fixture
def in_folder(in_user_child):
    """Runs a function in a child in an empty folder of its user's own, once as root and once as an ordinary user."""

    def run(function):
        def act():
            os.umask(0o022)
            path = tempfile.mkdtemp(dir="/tmp")
            os.chdir(path)
            try:
                return function()
            finally:
                remove_tree(path)

        return in_user_child(act)

    return run


def test_copied_file_keeps_content_mode_time_owner_attributes_and_acl(in_folder):
    def act() -> None:
        source, target = Path.cwd() / "source", Path.cwd() / "target"
        source.write_bytes(b"content")
        os.setxattr(source, "user.note", b"hello")
        os.setxattr(source, "user.overlay.origin", b"x")
        source.chmod(0o640)
        os.setxattr(source, ACL_NAME, make_acl(os.getgid()))
        os.utime(source, ns=(5, 1_234_567_890_123_456_789))
        source.chmod(0o440)

        assert copy_file(str(source), str(target)) == ()

        found = target.stat()
        assert target.read_bytes() == b"content"
        assert found.st_mtime_ns == 1_234_567_890_123_456_789
        assert stat.S_IMODE(found.st_mode) == 0o440
        assert (found.st_uid, found.st_gid) == (source.stat().st_uid, source.stat().st_gid)
        assert {name: os.getxattr(target, name) for name in os.listxattr(target)} == {
            "user.note": b"hello",
            ACL_NAME: os.getxattr(source, ACL_NAME),
        }

    in_folder(act)


@pytest.mark.parametrize("where", ["tmp_path", "/dev/shm"])
def test_copied_file_keeps_its_holes(tmp_path, where):
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        file.truncate(64 << 20)
        file.seek(20 << 20)
        file.write(b"middle")
    target = Path(where if where != "tmp_path" else tmp_path) / f"copy-{os.getpid()}"
    try:
        copy_file(str(source), str(target))
        found = target.stat()
        assert found.st_size == 64 << 20
        assert found.st_blocks * 512 < 1 << 20
        with target.open("rb") as file:
            file.seek(20 << 20)
            assert file.read(7) == b"middle\0"
    finally:
        target.unlink(missing_ok=True)


def test_copy_refuses_to_overwrite_and_to_write_through_a_link(tmp_path):
    (tmp_path / "source").write_text("x")
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "link").symlink_to("victim")
    for name in ("victim", "link"):
        with pytest.raises(FileExistsError):
            copy_file(str(tmp_path / "source"), str(tmp_path / name))
    assert (tmp_path / "victim").read_text() == "precious"


def test_copied_link_is_a_link(tmp_path):
    (tmp_path / "link").symlink_to("nowhere\n")
    copy_file(str(tmp_path / "link"), str(tmp_path / "copy"))
    assert os.readlink(tmp_path / "copy") == "nowhere\n"


def make_strange_tree(top: Path) -> None:
    (top / "dir" / "shut").mkdir(parents=True)
    (top / "dir" / "first").write_text("linked")
    os.link(top / "dir" / "first", top / "second")
    (top / os.fsdecode(b"\xff\n")).write_text("hostile name")
    (top / "link").symlink_to("dir")
    (top / "dir" / "shut" / "inside").write_text("x")
    os.mkfifo(top / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(top)
        listener.bind("socket")
        os.chdir(here)
    (top / "setuid").write_text("x")
    (top / "setuid").chmod(0o4755)
    (top / "dir").chmod(0o2750)
    os.setxattr(top / "dir", "user.overlay.opaque", b"y")
    if is_root():
        (top / "capable").write_text("x")
        os.setxattr(top / "capable", CAPABILITY, CAP_NET_RAW)
        os.mknod(top / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.utime(top / "dir", ns=(1, 1_000_000_000))
    (top / "dir" / "shut").chmod(0)


def refusals(done: str) -> list[str]:
    words = ["T/pipe: a named pipe, left out", "T/socket: a socket, left out", f"T/setuid: setuid or setgid bit {done}"]
    if is_root():
        words += ["T/device: a device, left out", f"T/capable: file capabilities {done}"]
    return sorted(words)


def check_cleaned(top: Path) -> None:
    names = {str(path.relative_to(top)) for path in top.rglob("*")}
    assert names - {"capable"} == {
        "dir", "dir/first", "dir/shut", "second", os.fsdecode(b"\xff\n"), "link", "setuid",
    } | ({"dir/shut/inside"} if is_root() else set())  # fmt: skip
    assert (top / "dir" / "first").stat().st_ino == (top / "second").stat().st_ino
    assert stat.S_IMODE((top / "setuid").stat().st_mode) == 0o755
    assert stat.S_IMODE((top / "dir").stat().st_mode) == 0o2750
    assert stat.S_IMODE((top / "dir" / "shut").stat().st_mode) == 0
    assert os.listxattr(top / "dir") == []
    if (top / "capable").exists():
        assert CAPABILITY not in os.listxattr(top / "capable")
    (top / "dir" / "shut").chmod(0o700)
    assert (top / "dir" / "shut" / "inside").read_text() == "x"


def test_copied_tree_keeps_what_belongs_to_it_and_says_what_it_left_out(in_folder):
    def act() -> None:
        make_strange_tree(Path.cwd() / "source")
        refused = copy_tree(str(Path.cwd() / "source"), str(Path.cwd() / "target"), shown="T")
        assert (Path.cwd() / "target" / "dir").stat().st_mtime_ns == 1_000_000_000
        check_cleaned(Path.cwd() / "target")
        assert sorted(refused) == refusals("left out")

    in_folder(act)


def test_sanitized_tree_is_clean_in_place_and_a_second_time_says_nothing(in_folder):
    def act() -> None:
        make_strange_tree(Path.cwd() / "tree")
        refused = sanitize_tree(str(Path.cwd() / "tree"), shown="T")
        assert sanitize_tree(str(Path.cwd() / "tree"), shown="T") == ()
        check_cleaned(Path.cwd() / "tree")
        assert sorted(refused) == refusals("taken off")

    in_folder(act)


def test_sanitized_file_that_is_read_only_loses_its_overlay_attributes(in_folder):
    def act() -> None:
        path = Path.cwd() / "file"
        path.write_text("x")
        os.setxattr(path, "user.overlay.origin", b"1")
        path.chmod(0o400)
        assert sanitize_tree(str(path)) == ()
        assert os.listxattr(path) == []
        assert stat.S_IMODE(path.stat().st_mode) == 0o400

    in_folder(act)


def test_sanitized_pipe_is_removed_and_named(tmp_path):
    os.mkfifo(tmp_path / "out")
    assert sanitize_tree(str(tmp_path / "out"), shown="/data/out") == ("/data/out: a named pipe, left out",)
    assert not (tmp_path / "out").exists()


def test_sanitized_tree_loses_what_is_too_deep_to_be_named(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    os.mkdir("tree", dir_fd=fd)
    inner = os.open("tree", os.O_RDONLY, dir_fd=fd)
    os.close(fd)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=inner)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=inner)
        os.close(inner)
        inner = deeper
    os.close(inner)
    (words,) = sanitize_tree(str(tmp_path / "tree"))
    assert words.endswith("deeper than a path can say, removed")
    assert copy_tree(str(tmp_path / "tree"), str(tmp_path / "copy")) == ()


def test_copy_without_the_owner_belongs_to_whoever_copies_like_anything_made_there(tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir()
    os.chown(folder, -1, os.getgroups()[-1] if not is_root() else 54321)
    folder.chmod(0o2775)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("text")
    (tree / "link").symlink_to("file")
    if is_root():
        for path in (tree, tree / "file", tree / "link"):
            os.chown(path, 12, 34, follow_symlinks=False)
    copy_tree(str(tree), str(folder / "copy"), keep_owner=False)
    copy_file(str(tree / "file"), str(folder / "file"), keep_owner=False)
    for path in (folder / "copy", folder / "copy" / "file", folder / "copy" / "link", folder / "file"):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (os.geteuid(), folder.stat().st_gid)
