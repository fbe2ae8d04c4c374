"""Targets in memory behave like files: whole or not there."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from jubako.flow.targets.format import Gzip, Nop
from jubako.flow.targets.mock import MockFileSystem, MockTarget
from jubako.flow.targets.target import FileAlreadyExists


@pytest.fixture(autouse=True)
def fs() -> Iterator[MockFileSystem]:
    yield MockFileSystem()
    MockFileSystem().clear()


def write(path: str, text: str = "x") -> None:
    with MockTarget(path).open("w") as file:
        file.write(text)


def test_file_appears_when_it_is_closed(fs: MockFileSystem) -> None:
    file = MockTarget("a").open("w")
    file.write("content")
    assert not MockTarget("a").exists()
    file.close()
    assert MockTarget("a").exists()
    assert fs.get_data("a") == b"content"
    assert MockTarget("a").open().read() == "content"


def test_exception_or_neglect_leaves_nothing(fs: MockFileSystem) -> None:
    with pytest.raises(RuntimeError), MockTarget("a").open("w") as file:
        file.write("half")
        raise RuntimeError
    MockTarget("a").open("w").write("half")
    gc.collect()
    assert fs.get_all_data() == {}


def test_formats_apply(fs: MockFileSystem) -> None:
    target = MockTarget("a", format=Nop >> Gzip)
    with target.open("w") as file:
        file.write(b"\x00" * 999)
    assert len(fs.get_data("a")) < 99
    assert target.open().read() == b"\x00" * 999


def test_what_is_written_can_be_mirrored(capsys: pytest.CaptureFixture[str]) -> None:
    with MockTarget("a", mirror_on_stderr=True).open("w") as file:
        file.write("shown")
    assert capsys.readouterr().err == "a: shown\n"


def test_directories_are_there_while_something_is_in_them(fs: MockFileSystem) -> None:
    write("dir/a")
    write("dir/b/c")
    write("directory")
    assert (fs.exists("dir"), fs.isdir("dir"), fs.isdir("directory"), fs.exists("di")) == (True, True, False, False)
    assert sorted(fs.listdir("dir")) == ["dir/a", "dir/b/c"]
    fs.copy("dir", "copy")
    assert sorted(fs.listdir("copy")) == ["copy/a", "copy/b/c"]
    fs.remove("dir")
    assert sorted(fs.get_all_data()) == ["copy/a", "copy/b/c", "directory"]
    fs.mkdir("anything")


def test_move_keeps_the_content_and_refuses_to_replace_if_told(fs: MockFileSystem) -> None:
    write("a", "1")
    write("b", "2")
    with pytest.raises(FileAlreadyExists):
        MockTarget("a").move("b", raise_if_exists=True)
    MockTarget("a").rename("b")
    assert fs.get_all_data() == {"b": b"1"}
    with pytest.raises(KeyError):
        fs.copy("gone", "c")
    with pytest.raises(KeyError):
        fs.remove("gone", recursive=False)


def test_temporary_path_is_renamed_in_memory(fs: MockFileSystem) -> None:
    with MockTarget("dir/a").temporary_path() as path:
        write(path, "whole")
        assert not MockTarget("dir/a").exists()
    assert fs.get_all_data() == {"dir/a": b"whole"}
    with pytest.raises(RuntimeError), MockTarget("dir/b").temporary_path() as path:
        write(path, "half")
        raise RuntimeError
    assert list(fs.get_all_data()) == ["dir/a"]
    with pytest.raises(FileAlreadyExists), MockTarget("dir/a").temporary_path() as path:
        write(path)
