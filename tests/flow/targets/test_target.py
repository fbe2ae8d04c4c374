"""What all targets and storages have in common."""

from __future__ import annotations

import re
from typing import Any

import pytest

from jubako.errors import HostError
from jubako.flow.targets.target import (
    FileAlreadyExists,
    FileSystem,
    FileSystemException,
    FileSystemTarget,
    MissingParentDirectory,
    NotADirectory,
    Target,
    temporary_name,
)


class Bare(FileSystem):
    def exists(self, path: str) -> bool:
        return path == "there"

    def remove(self, path: str, recursive: bool = True, skip_trash: bool = True) -> None:
        raise AssertionError


@pytest.mark.parametrize("method", ["mkdir", "isdir", "listdir"])
def test_storage_says_what_it_can_not_do(method: str) -> None:
    with pytest.raises(NotImplementedError, match=rf"{method}\(\) is not implemented on Bare"):
        getattr(Bare(), method)("x")


@pytest.mark.parametrize("method", ["move", "rename", "copy", "rename_dont_move"])
def test_storage_says_that_it_can_not_move(method: str) -> None:
    with pytest.raises(NotImplementedError, match="is not implemented on Bare"):
        getattr(Bare(), method)("x", "y")


def test_rename_does_not_replace_what_is_there() -> None:
    with pytest.raises(FileAlreadyExists, match="Destination exists: there"):
        Bare().rename_dont_move("x", "there")


def test_errors_of_storages_are_the_hosts_and_need_no_words() -> None:
    for kind in (FileAlreadyExists, MissingParentDirectory, NotADirectory):
        error = kind()
        assert isinstance(error, FileSystemException)
        assert isinstance(error, HostError)
        assert str(kind("words", hint="try")) == "words"


def test_target_must_say_if_it_exists() -> None:
    for cls, args in ((Target, ()), (FileSystemTarget, ("x",))):
        made: Any = cls
        with pytest.raises(TypeError, match="abstract"):
            made(*args)


@pytest.mark.parametrize(("path", "form"), [("a/b", r"a/b-luigi-tmp-\d{10}"), ("a/b//", r"a/b-luigi-tmp-\d{10}/")])
def test_temporary_name_is_beside_the_path_and_new_each_time(path: str, form: str) -> None:
    assert re.fullmatch(form, temporary_name(path))
    assert temporary_name(path) != temporary_name(path)
