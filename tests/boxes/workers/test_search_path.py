"""Names of the standard library, with files of the same names in front of it on the path; and which these must be.

What must be listed is found by importing, in a fresh process, all of jubako and whatever it imports late, and whatever
the modules loaded by that import late, until there is nothing new. Asking for a module counts: `subprocess` asks for
`msvcrt`, which is not there.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from functools import cache
from pathlib import Path

import pytest

import jubako
from jubako.boxes.workers.search_path import is_reserved, reserve_standard_names

SOURCE = Path(jubako.__path__[0])
# Imported late, in what jubako does not call: programs and tests of their own at the end of a module, help and the
# interactive interpreter, other systems, archives, passwords, coroutines, documents made of a console.
NOT_CALLED = (
    *("argparse", "asyncio", "configparser", "doctest", "getopt", "getpass", "html", "plistlib", "pprint", "pty"),
    *("pydoc", "readline", "rlcompleter", "statistics", "tarfile", "winreg", "zipfile"),
)
# NumPy, PyArrow, Pillow and clients of stores import what they like, early or late, as they do elsewhere. The
# endpoint is imported before a pipeline; what sends things to others is a process of its own, with a path of its own.
NOT_BESIDE_A_PIPELINE = (
    *("arrays.py", "images.py", "parquet.py", "weight_file.py", "weights.py", "store_connection.py", "store_loop.py"),
    *("endpoint.py", "sending.py", "posting.py", "mail.py", "pytest_plugin.py", "waiting.py"),
    "copying_tar.py",
)
# Imported late by modules written in C, which nobody can read here; tests/system/test_neighbours.py finds them too.
IMPORTED_BY_C = ("resource",)  # os.wait4
IMPORT_ALL = """
import sys

asked = set(sys.modules)

class Witness:
    @staticmethod
    def find_spec(name, path, target=None):
        if path is None:
            asked.add(name)

sys.meta_path.insert(0, Witness)
for name in sys.stdin.read().split():
    try:
        __import__(name)
    except ImportError:
        if name.startswith("jubako"):
            raise
print(*asked)
print(*(module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)), sep="\\n")
"""


def import_beside(folder: Path, name: str) -> str:
    """Imports `name` with `folder` first on the path; the file it came from."""
    sys.path.insert(0, str(folder))
    sys.modules.pop(name, None)
    reserve_standard_names()
    return str(getattr(importlib.import_module(name), "__file__", "built into the interpreter"))


def test_names_of_the_standard_library_are_found_in_it(tmp_path: Path, in_child: Callable[..., str]) -> None:
    for name in ("colorsys", "sqlite3", "_csv"):  # a module, a package, an extension module
        (tmp_path / f"{name}.py").touch()
        assert not in_child(lambda name=name: import_beside(tmp_path, name)).startswith(str(tmp_path))


def test_names_that_it_has_on_other_systems_are_not_found(tmp_path: Path, in_child: Callable[..., object]) -> None:
    (tmp_path / "msvcrt.py").touch()

    def attempt() -> None:
        with pytest.raises(ModuleNotFoundError, match="msvcrt"):
            import_beside(tmp_path, "msvcrt")

    in_child(attempt)


def test_other_names_are_found_where_the_path_leads(tmp_path: Path, in_child: Callable[..., str]) -> None:
    for path in ("recipes.py", "wsgiref.py", "nested/__init__.py", "nested/string.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    assert in_child(lambda: import_beside(tmp_path, "recipes")) == str(tmp_path / "recipes.py")
    assert in_child(lambda: import_beside(tmp_path, "wsgiref")) == str(tmp_path / "wsgiref.py")
    assert in_child(lambda: import_beside(tmp_path, "nested.string")) == str(tmp_path / "nested/string.py")


def test_reserving_twice_is_reserving_once(in_child: Callable[..., bool]) -> None:
    def attempt() -> bool:
        reserve_standard_names()
        finders = list(sys.meta_path)
        reserve_standard_names()
        return sys.meta_path == finders

    assert in_child(attempt)


def test_every_name_that_jubako_may_import_is_reserved() -> None:
    # The adapter for Luigi is imported whole before a pipeline, and Luigi reserves nothing. Attention, with NumPy and
    # torch, is imported by pipelines themselves.
    places = {file: file.relative_to(SOURCE).with_suffix("").parts for file in SOURCE.rglob("*.py")}
    sources = [file for file, parts in places.items() if not any(map(is_elsewhere, parts))]
    sources = [file for file in sources if file.name not in NOT_BESIDE_A_PIPELINE]
    parts = [file.relative_to(SOURCE.parent).with_suffix("").parts for file in sources]
    wanted = {".".join(names).removesuffix(".__init__") for names in parts} - {"jubako.__main__"} | set(IMPORTED_BY_C)
    wanted.update(name for file in sources for name in imports_of(str(file)))
    wanted = {name for name in wanted if f"{name.rpartition('.')[2]}.py" not in NOT_BESIDE_A_PIPELINE}
    asked: set[str] = set()
    late = {""}
    while late:
        asked, files = import_all(wanted)
        late = {name.partition(".")[0] for file in files for name in imports_of(file)} & sys.stdlib_module_names
        late -= {*asked, *NOT_CALLED}
        wanted |= late
    assert {"msvcrt", "_strptime", "calendar", "tracemalloc"} <= asked
    assert sorted(name for name in asked & sys.stdlib_module_names if not is_reserved(name)) == []


def test_names_that_jubako_does_not_need_are_free() -> None:
    assert not any(map(is_reserved, ("code", "profile", "test", "cmd", "email", "html", "http", "queue", "recipes")))


def is_elsewhere(part: str) -> bool:
    return part == "luigi" or part.startswith("attention")


def import_all(names: Collection[str]) -> tuple[set[str], list[str]]:
    """Imports `names` in a fresh process: the names of modules asked for there, and the files of those loaded."""
    command = [sys.executable, "-P", "-c", IMPORT_ALL]
    result = subprocess.run(command, input=" ".join(names), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    asked, *files = result.stdout.splitlines()
    return set(asked.split()), [file for file in files if file.endswith(".py")]


@cache
def imports_of(file: str) -> frozenset[str]:
    """The absolute imports of a file, wherever in it they stand."""
    return frozenset(_find_imports(ast.parse(Path(file).read_text())))


def _find_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            yield node.module
