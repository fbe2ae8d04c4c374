"""Files and directories as targets: whole or not there, in a box and outside, and nothing left beside them."""

from __future__ import annotations

import gc
import os
import pickle
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jubako.boxes import inside
from jubako.flow.targets.format import UTF8, Gzip, Nop
from jubako.flow.targets.local_files import discard
from jubako.flow.targets.local_target import DirectoryTarget, LocalTarget, resolve_path, set_start_directory
from jubako.flow.targets.target import FileAlreadyExists


def write(target: LocalTarget, text: str = "content") -> None:
    with target.open("w") as file:
        file.write(text)


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path))


# --- outside a box


def test_written_file_appears_when_it_is_closed_and_not_before(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "new" / "a.txt")
    file = target.open("w")
    file.write("content")
    assert not target.exists()
    file.close()
    assert target.exists()
    assert names(tmp_path / "new") == ["a.txt"]
    with target.open() as file:
        assert file.read() == "content"


def test_exception_while_writing_leaves_nothing(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "a.txt")
    with pytest.raises(RuntimeError), target.open("w") as file:
        file.write("half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_exception_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "a.txt")
    write(target, "old")
    with pytest.raises(RuntimeError), target.open("w") as file:
        file.write("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("format", [None, Nop, UTF8 >> Gzip], ids=["text", "bytes", "compressed"])
def test_file_that_is_dropped_without_closing_never_appears(tmp_path: Path, format: Any) -> None:
    file = LocalTarget(tmp_path / "a.txt", format=format).open("w")
    file.write(b"half" if format is Nop else "half")
    del file
    gc.collect()
    assert names(tmp_path) == []


def test_replacing_a_file_never_shows_a_part_of_it(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "a.txt")
    write(target, "old")
    file = target.open("w")
    file.write("new")
    file.flush()
    assert (tmp_path / "a.txt").read_text() == "old"
    file.close()
    file.close()
    assert (tmp_path / "a.txt").read_text() == "new"


def test_closing_onto_a_directory_raises_and_leaves_no_temporary(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    file = LocalTarget(tmp_path / "a").open("w")
    file.write("x")
    with pytest.raises(OSError):
        file.close()
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("format", [None, Nop, UTF8 >> Gzip], ids=["text", "bytes", "compressed"])
def test_write_that_fails_while_closing_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, in_child: Callable[[Callable[[], Any]], Any], format: Any
) -> None:
    (tmp_path / "a").write_text("old")

    def write_too_much() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        file = LocalTarget(tmp_path / "a", format=format).open("w")
        file.write(os.urandom(3000) if format is Nop else os.urandom(3000).hex())  # less than the buffers hold
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        with pytest.raises(OSError, match="File too large"):
            file.close()

    in_child(write_too_much)
    assert (names(tmp_path), (tmp_path / "a").read_text()) == (["a"], "old")


def test_bytes_and_text_may_be_opened_by_either_mode(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "a", format=Nop)
    with target.open("wb") as file:
        file.write(b"\x00\xff")
    with target.open("rb") as file:
        assert file.read() == b"\x00\xff"
    with pytest.raises(ValueError, match=r"mode must be 'r' or 'w' \(got: a\)"):
        target.open("a")


def test_target_needs_a_path() -> None:
    with pytest.raises(ValueError, match="path or is_tmp must be set"):
        LocalTarget()


def test_temporary_target_is_removed_when_it_is_dropped() -> None:
    target = LocalTarget(is_tmp=True)
    write(target)
    path = target.path
    assert os.path.exists(path)
    del target
    gc.collect()
    assert not os.path.exists(path)


def test_temporary_target_is_not_removed_by_a_forked_child(in_child: Callable[[Callable[[], Any]], Any]) -> None:
    target = LocalTarget(is_tmp=True)
    write(target)

    def drop() -> None:
        nonlocal target
        del target
        gc.collect()

    in_child(drop)
    assert target.exists()


def test_hostile_names_are_written_as_they_are(tmp_path: Path) -> None:
    for name in ("a\nb", "\udcff\udcfe", "-rf", "*?[", " ", "a'\"$(x)"):
        write(LocalTarget(os.path.join(tmp_path, name)), "x")
        assert os.path.exists(os.path.join(tmp_path, name))


def test_temporary_path_becomes_the_target_on_leaving(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "new" / "a")
    with target.temporary_path() as path:
        Path(path).write_text("x")
        assert not target.exists()
        assert os.path.dirname(path) == str(tmp_path / "new")
        assert "-luigi-tmp-" in path
    assert names(tmp_path / "new") == ["a"]


@pytest.mark.parametrize("make", ["file", "directory", "nothing"])
def test_temporary_path_is_removed_after_an_exception(tmp_path: Path, make: str) -> None:
    with pytest.raises(KeyboardInterrupt), LocalTarget(tmp_path / "a").temporary_path() as path:
        if make == "file":
            Path(path).write_text("x")
        elif make == "directory":
            os.makedirs(os.path.join(path, "deep"))
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_temporary_path_does_not_replace_what_is_there_as_in_luigi(tmp_path: Path) -> None:
    write(LocalTarget(tmp_path / "a"), "old")
    with (
        pytest.raises(FileAlreadyExists, match=f"Destination exists: {tmp_path}/a"),
        LocalTarget(tmp_path / "a").temporary_path() as path,
    ):
        Path(path).write_text("x")
    assert (names(tmp_path), (tmp_path / "a").read_text()) == (["a"], "old")


def test_temporary_path_of_a_directory_keeps_its_slash(tmp_path: Path) -> None:
    target = LocalTarget(f"{tmp_path}/dir/")
    with target.temporary_path() as path:
        assert path.endswith("/")
        os.makedirs(path)
        Path(path, "part").write_text("x")
    assert names(tmp_path / "dir") == ["part"]
    assert target.as_output().kind == "directory"
    assert target.as_output().path == f"{tmp_path}/dir"


def test_move_copy_and_remove(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "a")
    write(target)
    target.copy(str(tmp_path / "new" / "b"))
    target.move(str(tmp_path / "newer" / "c"))
    assert not target.exists()
    assert ((tmp_path / "new/b").read_text(), (tmp_path / "newer/c").read_text()) == ("content", "content")
    with pytest.raises(FileAlreadyExists):
        LocalTarget(tmp_path / "new/b").move(str(tmp_path / "newer/c"), raise_if_exists=True)
    with pytest.raises(FileAlreadyExists):
        LocalTarget(tmp_path / "new/b").copy(str(tmp_path / "newer/c"), raise_if_exists=True)
    LocalTarget(tmp_path / "new/b").move_dir(str(tmp_path / "d"))
    LocalTarget(tmp_path / "d").remove()
    LocalTarget(tmp_path / "newer").remove()
    assert names(tmp_path) == ["new"]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_move_to_another_file_system_copies_whole(tmp_path: Path, kind: str) -> None:
    other = Path("/dev/shm") if os.stat("/dev/shm").st_dev != os.stat(tmp_path).st_dev else Path("/tmp")
    source = tmp_path / "a"
    source.write_text("x") if kind == "file" else (source / "deep").mkdir(parents=True)
    target = LocalTarget(other / f"jubako-test-{os.getpid()}" / "b")
    try:
        LocalTarget(source).move(target.path)
        assert target.exists()
        assert not source.exists()
        assert names(Path(target.path).parent) == ["b"]
    finally:
        discard(os.path.dirname(target.path))


def test_deprecated_fn_still_answers(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="Use LocalTarget.path to reference filename"):
        assert LocalTarget("a").fn == "a"


def test_wildcards_in_a_path_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    assert not LocalTarget("/nowhere/part-*").exists()
    assert "Using wildcards in path /nowhere/part-* might lead to processing of an incomplete dataset" in caplog.text


def test_target_is_pickled(tmp_path: Path) -> None:
    target = pickle.loads(pickle.dumps(LocalTarget(tmp_path / "a", format=UTF8)))
    write(target, "é")
    assert (tmp_path / "a").read_bytes() == "é".encode()


def test_targets_print_their_path_as_given() -> None:
    assert (str(LocalTarget("a/b")), repr(LocalTarget(Path("a")))) == ("a/b", "LocalTarget('a')")


# --- paths


@pytest.fixture
def start(tmp_path: Path) -> Any:
    set_start_directory(str(tmp_path))
    yield tmp_path
    set_start_directory(None)


def test_relative_path_is_resolved_against_the_start_directory(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = LocalTarget("out/a.txt")
    monkeypatch.chdir("/")
    assert target.absolute_path == f"{start}/out/a.txt"
    assert target.path == "out/a.txt"
    write(target)
    assert (start / "out" / "a.txt").exists()
    assert target.exists()


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        ("/a/b", "/a/b"),
        ("/a//b/", "/a/b"),
        ("//a", "/a"),
        ("/a/./b", "/a/b"),
        ("/a/.hidden", "/a/.hidden"),
        ("/a/.", "/a"),
        ("/a/../b", "/b"),
        ("/..", "/"),
        ("/", "/"),
    ],
)
def test_resolved_path_is_normal(given: str, resolved: str) -> None:
    assert resolve_path(given) == resolved


def test_dots_follow_symbolic_links_as_the_kernel_does(start: Path) -> None:
    (start / "far" / "dir").mkdir(parents=True)
    (start / "link").symlink_to(start / "far" / "dir")
    assert resolve_path("link/../a") == f"{start.resolve()}/far/a"
    write(LocalTarget("link/../a"))
    assert (start / "link/../a").exists()


# --- directories


def test_directory_target_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = DirectoryTarget(tmp_path / "new" / "dir")
    assert (target.exists(), target.as_output().kind) == (False, "directory")
    for generation in ("one", "two"):
        with target.temporary_path() as path:
            Path(path, generation).write_text("x")
            assert names(Path(path)) == [generation]
    assert names(tmp_path / "new" / "dir") == ["two"]
    assert names(tmp_path / "new") == ["dir"]
    assert target.exists()


def test_directory_target_replaces_a_file_and_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept")
    for name in ("file", "link"):
        assert DirectoryTarget(tmp_path / name).exists() == (name == "link")
        with DirectoryTarget(tmp_path / name).temporary_path() as path:
            Path(path, "a").write_text("x")
        assert names(tmp_path / name) == ["a"]
    assert names(tmp_path / "kept") == []
    assert names(tmp_path) == ["file", "kept", "link"]


def test_directory_target_is_as_it_was_after_an_exception(tmp_path: Path) -> None:
    target = DirectoryTarget(tmp_path / "dir")
    with target.temporary_path() as path:
        Path(path, "old").write_text("x")
    with pytest.raises(RuntimeError), target.temporary_path() as path:
        Path(path, "new").write_text("x")
        raise RuntimeError
    assert (names(tmp_path / "dir"), names(tmp_path)) == (["old"], ["dir"])


def test_directory_target_can_not_be_opened(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a directory target; open files in it"):
        DirectoryTarget(tmp_path / "dir").open("w")


# --- in a box


@pytest.fixture
def box(tmp_path: Path, in_child: Callable[[Callable[[], Any]], Any]) -> Callable[[Callable[[], Any]], Any]:
    """Runs a function as a box would: `out/a` and the directory `out/d` are declared, and staged elsewhere."""
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "d").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "d").symlink_to(tmp_path / "stage" / "d")  # stands for the bind mount
    staged = {f"{tmp_path}/out/{name}": f"{tmp_path}/stage/{name}" for name in "ad"}

    def run(function: Callable[[], Any]) -> Any:
        def in_box() -> Any:
            inside.activate(staged, (), -1)
            return function()

        return in_child(in_box)

    return run


def test_declared_output_goes_to_its_staging_path_and_shows_at_its_own(tmp_path: Path, box: Any) -> None:
    target = LocalTarget(tmp_path / "out" / "a")

    def task() -> Any:
        file = target.open("w")
        file.write("content")
        before = names(tmp_path / "out"), target.exists()
        file.close()
        return before, target.exists(), target.open().read(), os.readlink(target.path)

    before, exists, text, link = box(task)
    assert before == (["d"], False)
    assert (exists, text, link) == (True, "content", f"{tmp_path}/stage/a")
    assert names(tmp_path / "stage") == ["a", "d"]


def test_declared_output_that_fails_leaves_nothing_staged(tmp_path: Path, box: Any) -> None:
    def task() -> None:
        with pytest.raises(RuntimeError), LocalTarget(tmp_path / "out" / "a").open("w") as file:
            file.write("half")
            raise RuntimeError
        with pytest.raises(RuntimeError), LocalTarget(tmp_path / "out" / "a").temporary_path() as path:
            Path(path).write_text("half")
            raise RuntimeError

    box(task)
    assert (names(tmp_path / "stage"), names(tmp_path / "out")) == (["d"], ["d"])


def test_temporary_path_of_a_declared_output_is_staged_and_may_be_written_twice(tmp_path: Path, box: Any) -> None:
    def task() -> Any:
        for text in ("one", "two"):
            with LocalTarget(tmp_path / "out" / "a").temporary_path() as path:
                assert path.startswith(f"{tmp_path}/stage/")
                Path(path).write_text(text)
        return (tmp_path / "out" / "a").read_text()

    assert box(task) == "two"
    assert names(tmp_path / "stage") == ["a", "d"]


@pytest.mark.parametrize("kind", ["directory target", "path with a slash"])
def test_declared_directory_is_filled_in_place(tmp_path: Path, box: Any, kind: str) -> None:
    def task() -> Any:
        for name in ("one", "two"):
            if kind == "directory target":
                with DirectoryTarget(tmp_path / "out" / "d").temporary_path() as path:
                    Path(path, name).write_text("x")
            else:
                with LocalTarget(f"{tmp_path}/out/d/").temporary_path() as path:
                    os.makedirs(path)
                    Path(path, name).write_text("x")
        return names(tmp_path / "out" / "d")

    assert box(task) == (["one", "two"] if kind == "directory target" else ["two"])
    assert names(tmp_path / "stage") == ["d"]


def test_removed_output_is_not_staged_any_more(tmp_path: Path, box: Any) -> None:
    target = LocalTarget(tmp_path / "out" / "a")

    def task() -> bool:
        write(target)
        target.remove()
        return target.exists()

    assert box(task) is False
    assert (names(tmp_path / "stage"), names(tmp_path / "out")) == (["d"], ["d"])


def test_what_is_not_declared_is_written_where_it_says(tmp_path: Path, box: Any) -> None:
    box(lambda: write(LocalTarget(tmp_path / "out" / "other")))
    assert names(tmp_path / "out") == ["d", "other"]
