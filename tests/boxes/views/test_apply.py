"""Operations performed for real, in a mount namespace that is thrown away."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.views.apply import OperationFailed, apply_operations, close_trees
from jubako.boxes.views.operations import (
    Bind,
    CopyAttributes,
    CopyFile,
    DetachMount,
    MakeDirectory,
    MakeFile,
    MakeSymlink,
    MaskDirectory,
    MaskFile,
    MountDevpts,
    MountOverlay,
    MountTmpfs,
    MoveMount,
    Operation,
    PivotRoot,
    PlaceTree,
    SetAttributes,
    SetPropagation,
    TakeTree,
)
from jubako.errors import BugError
from jubako.kernel.mount_table import find_mount, read_mount_table

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def refused(act: Callable[[], object]) -> int:
    try:
        act()
    except OSError as error:
        return error.errno or 0
    return 0


def test_bind_shows_a_directory_twice_and_read_only_holds_for_one(in_namespace: Runner) -> None:
    def work() -> tuple[str, int, int]:
        apply_operations(
            [
                MakeDirectory("/mnt/a/b"),
                MakeDirectory("/mnt/c"),
                Bind("/mnt/a", "/mnt/c"),
                SetAttributes("/mnt/c", read_only=True, nosuid=True),
            ]
        )
        Path("/mnt/a/file").write_text("x")
        options = next(one.options for one in read_mount_table() if one.mount_point == "/mnt/c")
        return options, refused(Path("/mnt/c/file").unlink), refused(Path("/mnt/a/file").unlink)

    options, through_bind, directly = in_namespace(work)
    assert {"ro", "nosuid"} <= {*options.split(",")}
    assert (through_bind, directly) == (errno.EROFS, 0)


def test_tree_is_placed_on_top_of_what_covered_it(in_namespace: Runner) -> None:
    def work() -> tuple[list[str], list[str], int]:
        apply_operations([MakeDirectory("/mnt/top/below"), MountTmpfs("/mnt/top/below", "1m")])
        Path("/mnt/top/below/kept").touch()
        before = descriptors()
        apply_operations(
            [
                TakeTree("t", "/mnt/top/below"),
                TakeTree("unused", "/mnt/top"),
                MountTmpfs("/mnt/top", "1m"),
                MakeDirectory("/mnt/top/below"),
                PlaceTree("t", "/mnt/top/below"),
            ]
        )
        return os.listdir("/mnt/top"), os.listdir("/mnt/top/below"), descriptors() - before

    assert in_namespace(work) == (["below"], ["kept"], 0)


def test_trees_of_the_caller_outlive_the_call(in_namespace: Runner) -> None:
    def work() -> tuple[list[str], int]:
        before = descriptors()
        trees: dict[str, int] = {}
        apply_operations([MakeDirectory("/mnt/a/x"), TakeTree("t", "/mnt/a"), TakeTree("u", "/mnt/a")], trees)
        apply_operations([MakeDirectory("/mnt/b"), PlaceTree("t", "/mnt/b")], trees)
        seen = os.listdir("/mnt/b")
        close_trees(trees)
        return seen, descriptors() - before

    assert in_namespace(work) == (["x"], 0)


def test_overlay_shows_both_and_writes_to_its_top(in_namespace: Runner) -> None:
    def work() -> tuple[list[str], list[str]]:
        overlay = MountOverlay(
            ("/mnt/l,o:w\\er", "/mnt/second"),
            "/mnt/merged",
            upper="/mnt/u",
            work="/mnt/w",
            userxattr=os.geteuid() != 0,
        )
        apply_operations(
            [
                *(MakeDirectory(f"/mnt/{name}") for name in ("l,o:w\\er/one", "second/two", "u", "w", "merged")),
                overlay,
            ]
        )
        Path("/mnt/merged/three").touch()
        return sorted(os.listdir("/mnt/merged")), os.listdir("/mnt/u")

    assert in_namespace(work) == (["one", "three", "two"], ["three"])


def test_overlay_that_is_refused_says_why_in_words(in_namespace: Runner) -> None:
    def work() -> tuple[str, int, str]:
        apply_operations([MakeDirectory("/mnt/l"), MakeDirectory("/mnt/merged")])
        operation = MountOverlay(("/mnt/l",), "/mnt/merged", upper="/mnt/missing", work="/mnt/w")
        try:
            apply_operations([operation])
        except OperationFailed as failed:
            return failed.message, failed.errno, type(failed.__cause__).__name__
        raise AssertionError("it was mounted")

    message, code, cause = in_namespace(work)
    assert message.startswith("cannot mount an overlay of /mnt/l on /mnt/merged with top /mnt/missing: ")
    assert "upperdir=/mnt/missing" in message
    assert (code, cause) == (errno.ENOENT, "MountError")


def test_masks_hide_and_refuse_writing(in_namespace: Runner) -> None:
    def work() -> tuple[list[str], int, bytes]:
        apply_operations([MakeDirectory("/mnt/secret"), MakeFile("/mnt/file")])
        Path("/mnt/secret/x").touch()
        Path("/mnt/file").write_text("secret")
        apply_operations([MaskDirectory("/mnt/secret"), MaskFile("/mnt/file", "/dev/null")])
        return os.listdir("/mnt/secret"), refused(Path("/mnt/secret/y").touch), Path("/mnt/file").read_bytes()

    listed, code, content = in_namespace(work)
    assert (listed, content) == ([], b"")
    assert code in (errno.EROFS, errno.EACCES)


def test_making_is_idempotent_and_minds_the_type(in_namespace: Runner) -> None:
    def work() -> list[str]:
        plan: list[Operation] = [MakeDirectory("/mnt/a/b/c", 0o700), MakeFile("/mnt/a/f"), MakeSymlink("/mnt/l", "a/f")]
        apply_operations(plan)
        apply_operations(plan[:2])
        modes = [oct(os.stat(path).st_mode & 0o777) for path in ("/mnt/a/b/c", "/mnt/a")]
        with pytest.raises(OperationFailed, match=r"cannot make directory /mnt/a/f, mode 0755"):
            apply_operations([MakeDirectory("/mnt/a/f")])
        return [*modes, os.readlink("/mnt/l")]

    assert in_namespace(work) == ["0o700", "0o755", "a/f"]


def test_attributes_are_copied_and_marks_of_overlays_are_not(in_namespace: Runner) -> None:
    def work() -> tuple[int, int, list[str]]:
        apply_operations([MakeDirectory("/mnt/from"), MakeDirectory("/mnt/to")])
        os.chmod("/mnt/from", 0o2751)
        os.setxattr("/mnt/from", "user.note", b"x")
        os.setxattr("/mnt/from", "user.overlay.opaque", b"y")
        os.utime("/mnt/from", ns=(1_000_000_000, 2_000_000_000))
        apply_operations([CopyAttributes("/mnt/from", "/mnt/to")])
        status = os.stat("/mnt/to")
        return status.st_mode & 0o7777, status.st_mtime_ns, os.listxattr("/mnt/to")

    assert in_namespace(work) == (0o2751, 2_000_000_000, ["user.note"])


def test_file_is_copied_with_its_mode_and_time(in_namespace: Runner) -> None:
    def work() -> tuple[str, int, int]:
        with open("/mnt/from", "w") as file:
            file.write("text")
        os.chmod("/mnt/from", 0o640)
        os.utime("/mnt/from", ns=(1_000_000_000, 2_000_000_000))
        apply_operations([CopyFile("/mnt/from", "/mnt/to")])
        status = os.stat("/mnt/to")
        with open("/mnt/to") as file:
            return file.read(), status.st_mode & 0o7777, status.st_mtime_ns

    assert in_namespace(work) == ("text", 0o640, 2_000_000_000)


def test_mounts_are_moved_and_detached(in_namespace: Runner) -> None:
    def work() -> list[str | None]:
        apply_operations(
            [
                SetPropagation("/mnt", "private"),
                *(MakeDirectory(f"/mnt/{name}") for name in "ab"),
                MountTmpfs("/mnt/a", "1m", 0o711),
                MoveMount("/mnt/a", "/mnt/b"),
            ]
        )
        points = []
        for path in ("/mnt/a", "/mnt/b"):
            mount = find_mount(read_mount_table(), path)
            points.append(mount and mount.mount_point)
        apply_operations([DetachMount("/mnt/b")])
        mount = find_mount(read_mount_table(), "/mnt/b")
        return [*points, mount and mount.mount_point]

    assert in_namespace(work) == ["/mnt", "/mnt/b", "/mnt"]


def test_pivot_leaves_nothing_of_the_old_root(in_namespace: Runner) -> None:
    def work() -> tuple[list[str], str]:
        apply_operations(
            [
                MakeDirectory("/mnt/root"),
                MountTmpfs("/mnt/root", "1m"),
                MakeDirectory("/mnt/root/dev/pts"),
                MountDevpts("/mnt/root/dev/pts"),
                PivotRoot("/mnt/root"),
            ]
        )
        return os.listdir("/"), os.getcwd()

    assert in_namespace(work) == (["dev"], "/")


def test_tree_that_was_never_taken_is_our_mistake(in_namespace: Runner) -> None:
    def work() -> str:
        with pytest.raises(BugError) as caught:
            apply_operations([PlaceTree("t", "/mnt")])
        return caught.value.message

    assert in_namespace(work) == "tree 't' is placed but was never taken"
