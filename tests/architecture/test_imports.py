"""Who may import whom, and that importing works where boxes don't."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
MODULES = sorted((SOURCE / "jubako").rglob("*.py"))
KNOWN = frozenset(MODULES)
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "core", "base", "manager", "managers", "stuff"}


class Text(NamedTuple):
    """What the tests want to know of a module."""

    docstring: str | None
    imports: frozenset[str]  # names of everything that is imported, wherever in it the import stands
    sources: frozenset[str]  # the modules that "from" names


@cache
def read(module: Path) -> Text:
    """Parsed once for all tests; the tree is not kept."""
    tree = ast.parse(module.read_text())
    imports, sources = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            sources.add(str(node.module))
            imports.update(f"{node.module}.{alias.name}" for alias in node.names)
    return Text(ast.get_docstring(tree), frozenset(imports), frozenset(sources))


def top_level_imports(module: Path) -> set[str]:
    """The first word of everything the module imports."""
    return {name.partition(".")[0] for name in read(module).imports}


def test_imports_point_down_only() -> None:
    """In a process of its own, because the linter turns off the loggers of whoever calls it."""
    code = "from importlinter.cli import lint_imports; exit(lint_imports(no_cache=True))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def imported_modules(module: Path) -> set[Path]:
    """The modules of jubako that one imports, wherever the import stands and whatever for."""
    text = read(module)
    found: set[Path] = set()
    for name in text.imports | text.sources:
        path = SOURCE / name.replace(".", "/")
        found.update((path.with_suffix(".py"), path / "__init__.py"))
    return found & KNOWN


def reached_imports(module: Path) -> set[str]:
    """The first words of all that a module imports, and that those of jubako do that it imports."""
    seen, ahead = {module}, [module]
    while ahead:
        fresh = imported_modules(ahead.pop()) - seen
        seen |= fresh
        ahead += fresh
    return {name for each in seen for name in top_level_imports(each)}


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not for types alone either: what two modules both need belongs into a third, or into one of them."""
    imports = {module: imported_modules(module) for module in MODULES}
    while without := [module for module in imports if not imports[module] & imports.keys()]:
        for module in without:  # it is in no circle: all it imports is in none
            del imports[module]
    circle = {
        str(module.relative_to(SOURCE)): sorted(str(other.relative_to(SOURCE)) for other in others & imports.keys())
        for module, others in imports.items()
    }
    assert circle == {}


def test_third_party_packages_are_imported_where_they_are_meant_to_be_only() -> None:
    foreign = {
        (str(module.relative_to(SOURCE)), name)
        for module in MODULES
        for name in top_level_imports(module)
        if name not in sys.stdlib_module_names and name not in {"jubako", "typing_extensions"}
    }
    names = {"click", "rich", "cronsim", "fsspec", "numpy", "PIL", "pyarrow", "pytest", "torch"}
    assert {name for _, name in foreign} == names
    assert {module.split("/")[1] for module, name in foreign if name == "click"} == {"cli"}
    assert {module for module, name in foreign if name == "pytest"} == {"jubako/pytest_plugin.py"}
    assert {module for module, name in foreign if name == "rich"} == {"jubako/cli/live.py"}
    assert {module for module, name in foreign if name == "cronsim"} == {"jubako/flow/schedules/cron.py"}
    assert {module for module, name in foreign if name == "fsspec"} == {"jubako/flow/stores/store_connection.py"}
    with_numpy = {module for module, name in foreign if name == "numpy" and "/attention/" not in module}
    assert with_numpy == {f"jubako/verify/{name}.py" for name in ("arrays", "images", "weight_file", "weights")}
    assert {module for module, name in foreign if name == "PIL"} == {"jubako/verify/images.py"}
    torch = {module for module, name in foreign if name == "torch"}
    rooms = ("jubako/attention/observing/", "jubako/attention/layer/", "jubako/attention/maps/tracing.py")
    assert all(module.startswith(rooms) for module in torch)
    assert {module for module, name in foreign if name == "pyarrow"} == {"jubako/verify/parquet.py"}


def test_kernel_imports_the_standard_library_and_what_is_below_it_only() -> None:
    kernel = [module for module in MODULES if SOURCE / "jubako" / "kernel" in module.parents]
    assert kernel
    for module in kernel:
        for source in read(module).sources:
            if source.startswith("jubako"):
                below = source in {"jubako", "jubako.errors", "jubako.records"}
                assert below or source.startswith("jubako.kernel"), module


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(SOURCE)))
def test_module_makes_its_records_without_dataclasses(module: Path) -> None:
    assert "dataclasses" not in top_level_imports(module)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(SOURCE)))
def test_module_has_a_telling_name_and_says_what_it_is_for(module: Path) -> None:
    assert not VAGUE_NAMES & set(module.relative_to(SOURCE).with_suffix("").parts)
    assert read(module).docstring


def test_everything_imports_on_a_system_without_linux_system_calls() -> None:
    names = [
        ".".join(module.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for module in MODULES
        if module.name != "__main__.py" and "torch" not in reached_imports(module)  # which has a system of its own
    ]
    code = f"""
import ctypes, os, sys, importlib
import zoneinfo  # Python's own, and made for the system it was built on

def refuse(*arguments, **options):
    raise OSError("no such library on this system")

sys.platform = "darwin"
ctypes.CDLL = refuse
for name in ("unshare", "setns", "pidfd_open", "memfd_create", "eventfd", "copy_file_range", "sched_getaffinity",
             "getxattr", "setxattr", "listxattr", "removexattr", "O_TMPFILE", "O_PATH", "CLONE_NEWNS"):
    if hasattr(os, name):
        delattr(os, name)
for name in {names!r}:
    importlib.import_module(name)
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
