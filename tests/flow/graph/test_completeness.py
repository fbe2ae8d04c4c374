"""Completeness in bulk answers what asking one by one would, for any names and kinds of entries, and lists little."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.flow.graph.completeness import bulk_exists, find_complete, find_existing, targets_exist
from jubako.flow.parameters import IntParameter
from jubako.flow.targets.local_target import DirectoryTarget, LocalFileSystem, LocalTarget
from jubako.flow.targets.mock import MockTarget
from jubako.flow.targets.target import FileSystem, Target
from jubako.flow.tasks.task import Task

NAMES = st.sampled_from(["a", "A", "b", ".hidden", "a\nb", "\udcff", "é", "x.json", "link", "dir", "dangling"])


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("tree")
    for folder in (root, root / "dir", root / "dir" / "dir"):
        folder.mkdir(exist_ok=True)
        for name in ("a", ".hidden", "a\nb", "\udcff"):
            (folder / name).write_text("")
        (folder / "link").symlink_to("dir")
        (folder / "dangling").symlink_to("nowhere")
    return str(root)


PATHS = st.lists(st.builds("/".join, st.lists(NAMES, min_size=1, max_size=3)), max_size=30)


@given(PATHS, st.sampled_from(["", "/", "//"]))
def test_bulk_answer_is_the_answer_one_by_one(tree: str, relative: list[str], ending: str) -> None:
    paths = [f"{tree}/{path}{ending}" for path in relative]
    assert bulk_exists(paths) == {path for path in paths if os.path.exists(path)}


@pytest.mark.parametrize("path", ["/", "/tmp", "/tmp/", "", ".", "..", "/tmp/..", "/tmp/.", "a\0b", "/nowhere/x"])
def test_odd_paths_are_answered_like_os_path_exists(path: str) -> None:
    assert bulk_exists([path] * 9) == ({path} if os.path.exists(path) else set())


def test_many_paths_of_a_directory_take_one_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(0, 1000, 3):
        (tmp_path / f"{n}").touch()
    asked: list[str] = []
    monkeypatch.setattr(os.path, "exists", lambda path: asked.append(path) or False)
    found = bulk_exists(f"{tmp_path}/{n}" for n in range(1000))
    assert found == {f"{tmp_path}/{n}" for n in range(0, 1000, 3)}
    assert asked == []


def test_few_paths_of_a_huge_directory_do_not_list_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Huge:
        st_size = 50 << 20

    (tmp_path / "1").touch()
    monkeypatch.setattr(os, "scandir", lambda path: pytest.fail("listed"))
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **rest: Huge if path == str(tmp_path) else stat(path, **rest))
    assert bulk_exists([f"{tmp_path}/{n}" for n in range(20)]) == {f"{tmp_path}/1"}


def test_directory_that_can_only_be_entered_is_asked_one_by_one(
    in_user_child: Callable[[Callable[[], Any]], Any],
) -> None:
    def ask() -> set[str]:
        os.umask(0o077)
        base = f"/tmp/jubako-entered-{os.getpid()}"
        os.mkdir(base)
        try:
            for n in range(0, 20, 2):
                Path(base, str(n)).touch()
            os.chmod(base, 0o311)
            return {os.path.basename(path) for path in bulk_exists(f"{base}/{n}" for n in range(20))}
        finally:
            os.chmod(base, 0o700)
            LocalFileSystem().remove(base)

    assert in_user_child(ask) == {str(n) for n in range(0, 20, 2)}


# --- targets and tasks


class Choosy(LocalTarget):
    """Exists only if it is not empty."""

    def exists(self) -> bool:
        return super().exists() and os.path.getsize(self.path) > 0


def test_targets_are_answered_in_order_whatever_their_kind(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "dir").mkdir()
    with MockTarget("in memory").open("w") as file:
        file.write("x")
    targets = [
        LocalTarget(tmp_path / "empty"),
        Choosy(tmp_path / "empty"),
        MockTarget("in memory"),
        MockTarget("nowhere"),
        DirectoryTarget(tmp_path / "dir"),
        DirectoryTarget(tmp_path / "empty"),
        LocalTarget(tmp_path / "dir"),
        LocalTarget(tmp_path / "nowhere"),
    ]
    assert targets_exist(targets) == [target.exists() for target in targets]
    assert targets_exist(targets) == [True, False, True, False, True, False, True, False]
    assert targets_exist([]) == []


class Make(Task):
    n = IntParameter()
    folder = ""

    def output(self) -> Any:
        return [LocalTarget(f"{self.folder}/{self.n}-a"), {"b": LocalTarget(f"{self.folder}/{self.n}-b")}]


class Own(Make):
    def complete(self) -> bool:
        return self.n == 3


def test_complete_tasks_are_those_that_say_so(tmp_path: Path) -> None:
    Make.folder = str(tmp_path)
    for name in ("1-a", "1-b", "2-b", "3-a", "4-a", "4-b"):
        (tmp_path / name).touch()
    tasks = [Make(n) for n in range(6)] + [Own(n) for n in range(6)]
    assert find_complete(tasks) == [task for task in tasks if task.complete()] == [Make(1), Make(4), Own(3)]


def test_complete_that_was_replaced_on_one_task_is_asked(tmp_path: Path) -> None:
    task = Make(1)
    task.complete = lambda: True  # type: ignore[method-assign]
    assert find_complete([task]) == [task]


# --- other storages


class Bucket(FileSystem):
    """A storage that lists keys by prefix and counts how often it was asked."""

    def __init__(self, *keys: str, lists: bool = True) -> None:
        self.keys, self.lists, self.asked = keys, lists, 0

    def exists(self, path: str) -> bool:
        self.asked += 1
        return any(key == path or key.startswith(path.rstrip("/") + "/") for key in self.keys)

    def remove(self, path: str, recursive: bool = True, skip_trash: bool = True) -> None:
        raise AssertionError

    def listdir(self, path: str) -> Iterator[str]:
        if not self.lists:
            raise NotImplementedError
        self.asked += 1
        return iter([key for key in self.keys if key.startswith(path.rstrip("/") + "/")])


WANTED = [f"s3://b/x/{n}" for n in range(100)] + ["s3://b/y/1", "s3://b/z/0"]


@pytest.mark.parametrize("lists", [True, False])
def test_other_storages_are_listed_where_they_can_be(lists: bool) -> None:
    bucket = Bucket("s3://b/x/3", "s3://b/x/50/part-0", "s3://b/z/0", "s3://b/x/5/", lists=lists)
    assert find_existing(bucket, WANTED) == {"s3://b/x/3", "s3://b/x/50", "s3://b/z/0", "s3://b/x/5"}
    assert bucket.asked < 10 or not lists


def test_local_file_system_is_asked_in_bulk(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    assert find_existing(LocalFileSystem(), [f"{tmp_path}/{n}" for n in range(9)]) == {f"{tmp_path}/1"}


class Many(Target):
    """A target of which many can be asked for at once."""

    asked: ClassVar[list[int]] = []

    def __init__(self, number: int) -> None:
        self.number = number

    def exists(self) -> bool:
        self.asked.append(1)
        return self.number > 1

    @classmethod
    def exist_many(cls, targets: Sequence[Any]) -> list[bool]:
        cls.asked.append(len(targets))
        return [target.number > 1 for target in targets]


class Same(Many):
    pass


class Alone(Many):
    """One with another idea of being there."""

    def exists(self) -> bool:
        self.asked.append(1)
        return self.number == 1


def test_targets_that_can_be_asked_for_at_once_are_unless_they_say_otherwise_themselves() -> None:
    Many.asked.clear()
    assert targets_exist([Many(1), Many(2), Same(1), Same(2), Alone(1), Alone(2)]) == [False, True] * 2 + [True, False]
    assert Many.asked == [2, 2, 1, 1]
