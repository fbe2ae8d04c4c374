"""Names of the standard library, with files of the same names in front of it on the path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jubako.boxes.search_path import reserve_standard_names


def import_beside(folder: Path, name: str) -> str:
    """Imports `name` with `folder` first on the path; the file it came from."""
    sys.path.insert(0, str(folder))
    sys.modules.pop(name, None)
    reserve_standard_names()
    return str(importlib.import_module(name).__file__)


def test_names_of_the_standard_library_are_found_in_it(tmp_path: Path, in_child: Callable[..., str]) -> None:
    for name in ("colorsys", "wsgiref", "_csv"):  # a module, a package, an extension module
        (tmp_path / f"{name}.py").touch()
        assert not in_child(lambda name=name: import_beside(tmp_path, name)).startswith(str(tmp_path))


def test_names_that_it_has_on_other_systems_are_not_found(tmp_path: Path, in_child: Callable[..., object]) -> None:
    (tmp_path / "msvcrt.py").touch()

    def attempt() -> None:
        with pytest.raises(ModuleNotFoundError, match="msvcrt"):
            import_beside(tmp_path, "msvcrt")

    in_child(attempt)


def test_other_names_are_found_where_the_path_leads(tmp_path: Path, in_child: Callable[..., str]) -> None:
    for path in ("recipes.py", "nested/__init__.py", "nested/string.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    assert in_child(lambda: import_beside(tmp_path, "recipes")) == str(tmp_path / "recipes.py")
    assert in_child(lambda: import_beside(tmp_path, "nested.string")) == str(tmp_path / "nested/string.py")


def test_reserving_twice_is_reserving_once(in_child: Callable[..., bool]) -> None:
    def attempt() -> bool:
        reserve_standard_names()
        finders = list(sys.meta_path)
        reserve_standard_names()
        return sys.meta_path == finders

    assert in_child(attempt)
