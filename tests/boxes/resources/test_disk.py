"""What takes space on a disk: files with several names once, deleted ones as long as they are open."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.boxes.resources.disk import find_open_files, measure_deleted, measure_directories
from jubako.layers.remove import remove_tree

MB = 1 << 20


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder on a disk, where a block is a block."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as path:
        yield Path(path)


def test_files_are_measured_at_every_depth_and_each_once(folder: Path) -> None:
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/file").write_bytes(b"x" * MB)
    os.link(folder / "a/b/file", folder / "other")
    (folder / "link").symlink_to("/bin")
    (folder / "whiteout").symlink_to("nowhere")
    assert MB <= measure_directories([str(folder)]) < MB + 100_000
    assert measure_directories([str(folder / "a"), str(folder)]) < MB + 100_000


def test_hole_takes_no_space(folder: Path) -> None:
    with (folder / "file").open("wb") as file:
        file.truncate(1 << 40)
    assert measure_directories([str(folder)]) < 100_000


def test_file_is_found_deeper_than_a_path_or_a_recursion_goes(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(1050):
        os.mkdir("deeper", dir_fd=fd)
        inner = os.open("deeper", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    file = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    os.write(file, b"x" * MB)
    os.close(file)
    os.close(fd)
    assert measure_directories([str(folder)]) >= MB
    remove_tree(str(folder / "deeper"))


def test_directory_that_is_gone_is_empty(folder: Path) -> None:
    assert measure_directories([str(folder / "none")]) == 0


def test_deleted_file_counts_while_it_is_open_and_was_not_before(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as early:
        early.write(b"x" * MB)
        early.flush()
        known = find_open_files()
        with tempfile.TemporaryFile(dir=folder) as late:
            late.write(b"x" * MB * 2)
            late.flush()
            again = os.dup(late.fileno())
            assert measure_directories([str(folder)]) == 0
            assert 2 * MB <= measure_deleted([os.getpid()], known) < 2 * MB + 100_000
            os.close(again)
        assert measure_deleted([os.getpid()], known) == 0


def test_memory_is_no_disk() -> None:
    fd = os.memfd_create("memory")
    try:
        os.write(fd, b"x" * MB)
        assert measure_deleted([os.getpid()]) < MB
    finally:
        os.close(fd)


def test_process_that_has_ended_holds_nothing() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    assert measure_deleted([pid]) == 0
