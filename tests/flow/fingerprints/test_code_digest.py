"""What changes the digest of a task's code and what does not, in real files that are really imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

import jubako
from jubako.flow.fingerprints import code_digest
from jubako.flow.fingerprints.code_digest import Code, digest_code
from jubako.flow.tasks.register import Register

MAIN = """
import math
import os.path as osp
from jubako import Config, ExternalTask, FloatParameter, LocalTarget, Task
import {0}_helpers as helpers
from {0}_numbers import RATE as rate, twice
from {0}_stars import *

LIMIT = 3
TABLE = {{}}
TABLE.update(a=1)

class Settings(Config):
    factor = FloatParameter(default=2.0)

class Other(Task):
    def run(self): pass

class Base(Task):
    def shared(self): return LIMIT

class Mixin:
    def mixed(self): return TABLE

class Made(Mixin, Base):
    "What it is for."
    priority = 1

    def requires(self): return Other()

    def output(self): return LocalTarget("x")

    def run(self):
        from {0}_late import late
        value = helpers.mean([twice(rate), starred(), late()]) * Settings().factor
        print(self.shared(), self.mixed(), math.pi, osp.sep, value)
"""
HELPERS = """
def mean(values):
    return _sum(values) / len(values)

def _sum(values):
    return sum(values)

def unused(values):
    return None
"""
FILES = {
    "main": MAIN,
    "helpers": HELPERS,
    "numbers": "RATE = 2\nOTHER = 3\n\ndef twice(x):\n    return 2 * x\n",
    "stars": "def starred():\n    return 1\n",
    "late": "def late():\n    return 1\n",
}

Digest = Callable[..., Code]


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Digest]:
    """digest(helpers="..."): the code of Made when these files, by name, hold something else."""
    prefix = f"code_{tmp_path.name.replace('-', '_')}"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    classes = list(Register._reg)

    def forget() -> None:
        for name in [name for name in sys.modules if name.startswith(prefix)]:
            del sys.modules[name]
        for remembered in (code_digest._load, code_digest._is_own):
            remembered.cache_clear()
        code_digest._codes.clear()
        importlib.invalidate_caches()
        Register._reg[:] = classes

    def take(change: Mapping[str, str] | None = None, /, cls: str = "Made") -> Code:
        forget()
        for name, text in {**FILES, **(change or {})}.items():
            (tmp_path / f"{prefix}_{name}.py").write_text(text.format(prefix) if name == "main" else text)
        found = digest_code(getattr(importlib.import_module(f"{prefix}_main"), cls))
        pieces = {name.removeprefix(f"{prefix}_"): value for name, value in found.pieces.items()}
        return Code(pieces, found.configs, found.problem)

    yield take
    forget()


def replaced(name: str, old: str, new: str) -> dict[str, str]:
    assert old in FILES[name]
    return {name: FILES[name].replace(old, new)}


def test_pieces_are_the_class_and_what_it_uses(digest: Digest) -> None:
    code = digest()
    assert (code.problem, [cls.__name__ for cls in code.configs]) == ("", ["Settings"])
    assert sorted(code.pieces) == [
        *("helpers._sum", "helpers.mean", "late.late", "main.Base", "main.LIMIT", "main.Made", "main.Mixin"),
        *("main.TABLE", "numbers.RATE", "numbers.twice", "stars.starred"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        replaced("helpers", "def mean(values):\n", "def mean(values):\n    'What it does.'\n    # how\n\n"),
        replaced("helpers", "_sum(values) / len(values)", "(_sum(values)\n            /   len( values ))"),
        replaced("helpers", "return None", "return 1"),
        replaced("numbers", "OTHER = 3", "OTHER = 4"),
        replaced("main", '"What it is for."', '"Something else."'),
        replaced("main", "priority = 1", "priority = 2\n    resources = {{'gpu': 1}}"),
        replaced("main", "def run(self): pass", "def run(self): print()"),
        replaced("main", "default=2.0", "default=3.0"),  # its value counts, as a parameter
        replaced("main", "    def requires", "    def on_success(self): print()\n\n    def requires"),
    ],
)
def test_what_makes_no_other_result_changes_no_digest(digest: Digest, change: dict[str, str]) -> None:
    assert digest().pieces == digest(change).pieces


@pytest.mark.parametrize(
    ("change", "pieces"),
    [
        (replaced("helpers", "return sum(values)", "return max(values)"), ["helpers._sum"]),
        (replaced("helpers", "_sum(values) /", "sum(values) /"), ["helpers._sum", "helpers.mean"]),
        (replaced("numbers", "RATE = 2", "RATE = 2.5"), ["numbers.RATE"]),
        (replaced("numbers", "RATE = 2", "RATE = 2\nRATE += 1"), ["numbers.RATE"]),
        (replaced("numbers", "2 * x", "x * 2"), ["numbers.twice"]),
        (replaced("stars", "return 1", "return 2"), ["stars.starred"]),
        (replaced("late", "return 1", "return 2"), ["late.late"]),
        (replaced("main", "LIMIT = 3", "LIMIT = 4"), ["main.LIMIT"]),
        (replaced("main", "TABLE.update(a=1)", "TABLE.update(a=2)"), ["main.TABLE"]),
        (replaced("main", "return TABLE", "return dict(TABLE)"), ["main.Mixin"]),
        (replaced("main", "return LIMIT", "return -LIMIT"), ["main.Base"]),
        (replaced("main", '"x"', '"y"'), ["main.Made"]),
    ],
)
def test_piece_that_changed_is_named(digest: Digest, change: dict[str, str], pieces: list[str]) -> None:
    before, after = digest().pieces, digest(change).pieces
    assert sorted(n for n in {*before, *after} if before.get(n) != after.get(n)) == pieces


def test_module_that_is_handed_on_counts_as_a_whole(digest: Digest) -> None:
    change = replaced("main", "helpers.mean(", "run_with(helpers)(")
    before = digest(change).pieces
    assert "helpers.*" in before
    after = digest({**change, **replaced("helpers", "return None", "return 1")}).pieces
    assert before["helpers.*"] != after["helpers.*"]


def test_class_without_a_file_has_code_that_cannot_be_read() -> None:
    space: dict[str, object] = {"__name__": "nowhere"}
    exec("from jubako import Task\nclass Made(Task): pass", space)
    made = space["Made"]
    assert isinstance(made, type)
    assert digest_code(made).pieces == {}
    found = digest_code(type("Typed", (made,), {"__module__": __name__}))
    assert found.problem == "the source of Typed is not in a file that can be read"


def test_packages_and_relative_imports_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = f"package_{tmp_path.name.replace('-', '_')}"
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in {
        "__init__": "",
        "tasks": "from jubako import Task\nfrom . import maths\nfrom .maths.deep import value\nimport {0}.plain\n"
        "class Made(Task):\n    def run(self): maths.top(), value, {0}.plain.f()\n",
        "maths/__init__": "from .deep import value as again\ndef top(): return again\n",
        "maths/deep": "value = 1\n",
        "plain": "def f(): pass\n",
    }.items():
        file = tmp_path / package / f"{name}.py"
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(text.replace("{0}", package))
    made = importlib.import_module(f"{package}.tasks").Made
    try:
        pieces = [name.removeprefix(f"{package}.") for name in digest_code(made).pieces]
        assert pieces == ["maths.deep.value", "maths.top", "plain.f", "tasks.Made"]
    finally:
        for name in [name for name in sys.modules if name.startswith(package)]:
            del sys.modules[name]


def test_modules_that_import_all_of_each_other_are_followed_to_an_end(digest: Digest) -> None:
    prefix = "from {0} import *\n"
    code = digest()
    stars = next(name for name in sys.modules if name.endswith("_stars"))
    other = stars.replace("_stars", "_others")
    change = {
        "stars": prefix.format(other) + "def starred():\n    return len(str(other()))\n",
        "others": prefix.format(stars) + "def other():\n    return print\n",
    }
    assert sorted({*digest(change).pieces} - {*code.pieces}) == ["others.other"]


def test_what_is_installed_does_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "lib/site-packages"
    folder.mkdir(parents=True)
    (folder / "x.py").touch()
    (tmp_path / "own.py").touch()
    own = [str(tmp_path / "own.py"), str(folder / "x.py"), importlib.__file__, code_digest.__file__, "", "/none.py"]
    assert [code_digest._is_own(str(file)) for file in own] == [True, False, False, False, False, False]


def test_no_module_of_jubako_counts() -> None:
    modules = [str(file) for file in Path(jubako.__path__[0]).rglob("*.py")]
    assert len(modules) > 300
    assert [file for file in modules if code_digest._is_own(file)] == []
