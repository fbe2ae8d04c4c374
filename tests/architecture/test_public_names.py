"""The names `import jubako` offers: all there, all typed, all documented, none loaded before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jubako
import jubako.attention
import jubako.verify

ROOT = Path(__file__).parents[2]
NAMES = sorted(set(jubako.__all__) - {"__version__"})


@pytest.mark.parametrize("name", NAMES)
def test_public_name_is_importable_and_documented(name: str) -> None:
    value = getattr(jubako, name)
    assert value.__doc__, f"{name} has no docstring"
    assert f"`{name}" in (ROOT / "docs" / "python.md").read_text(), f"{name} is not in docs/python.md"


def test_names_of_verification_are_importable_and_documented() -> None:
    page = (ROOT / "docs/commands/verify.md").read_text()
    for name in jubako.verify.__all__:
        assert getattr(jubako.verify, name).__doc__, f"{name} has no docstring"
        assert f"`{name}`" in page, f"{name} is not in docs/commands/verify.md"


def test_names_of_attention_are_importable_and_documented() -> None:
    code = "import jubako.attention as a; print(*(name for name in a.__all__ if getattr(a, name).__doc__))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # it loads torch
    assert result.stdout.split() == list(jubako.attention.__all__)
    pages = "".join(page.read_text() for page in (ROOT / "docs").rglob("attention*.md"))
    assert [name for name in jubako.attention.__all__ if f"`{name}" not in pages] == []


def test_importing_attention_loads_neither_numpy_nor_torch() -> None:
    code = "import sys, jubako.attention; print({'numpy', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_type_checkers_see_the_same_names_as_programs() -> None:
    tree = ast.parse((ROOT / "src" / "jubako" / "__init__.py").read_text())
    seen = {
        alias.asname
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    }
    assert seen == set(NAMES)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Tsk'"):
        jubako.Tsk  # noqa: B018


def test_importing_jubako_loads_nothing_else() -> None:
    code = "import sys, jubako; print(*sorted(name for name in sys.modules if name.startswith('jubako')))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["jubako", "jubako._version"]


def test_package_says_it_is_typed() -> None:
    assert (ROOT / "src" / "jubako" / "py.typed").exists()
