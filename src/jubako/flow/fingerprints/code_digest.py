"""What code a task is made by, as digests of pieces: its class, and what that uses, as far as it can be seen.

A piece is a function, a class, or what is assigned to a name at the top of a module. From the task's class on, every
name that a piece uses is looked up where it is bound, in that module or where it is imported from, and what it stands
for is a piece too. Comments, docstrings, blank lines and layout are no part of a digest, which is taken of the syntax
tree.

    counts           the pipeline's own files, wherever they are imported from
    doesn't count    Python, jubako and what is installed in site-packages; other tasks (they are inputs, if anything);
                     settings that change how a task is run and not what it makes (`priority`, `resources` ...)
    can't be seen    names that are put together at run time (getattr, importlib, globals), methods of values of
                     unknown class, programs and scripts that a task starts, data files that it reads undeclared

Sources are read from disk, once per process. Decision 14 says what else was considered.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from jubako.flow.tasks.register import Register
from jubako.flow.tasks.task import Config
from jubako.home import PACKAGE
from jubako.records import field, record

__all__ = ["Code", "digest_code"]

_SETTINGS: Final = frozenset(
    {
        *("priority", "disabled", "resources", "worker_timeout", "max_batch_size", "owner_email", "accepts_messages"),
        *("retry_count", "retry_delay_s", "retry_backoff", "retry_delay_max_s", "verification", "tracks_changes"),
        *("disable_hard_timeout", "disable_window", "disable_after", "use_cmdline_section", "code_version"),
        *("after_publish", "on_success", "on_failure"),
    }
)


_codes: dict[type, Code] = {}


@record
class Code:
    """`pieces`: name -> digest. `configs`: the classes of settings that they use. `problem`: why it cannot be read."""

    pieces: Mapping[str, str] = field(default_factory=dict)
    configs: Sequence[type] = ()
    problem: str = ""


def digest_code(cls: type) -> Code:
    """The code of a task class. What changes on disk after the first question is seen by the next process."""
    if cls not in _codes:
        _codes[cls] = _read_code(cls)
    return _codes[cls]


def _read_code(cls: type) -> Code:
    walk = _Walk()
    for base in cls.__mro__:
        if _is_own(_file_of(base.__module__)) and not walk.add_class(base):
            return Code(problem=f"the source of {base.__qualname__} is not in a file that can be read")
    walk.follow()
    return Code(dict(sorted(walk.pieces.items())), tuple(walk.configs))


class _Module:
    """A source file of the pipeline's own: what its top-level names are bound to."""

    def __init__(self, name: str, file: str) -> None:
        self.name = name
        self.file = file
        self.bound: dict[str, list[ast.stmt]] = {}
        self.stars: list[ast.ImportFrom] = []
        with open(file, "rb") as source:
            self.tree = ast.parse(source.read(), file)
        for statement in _flat(self.tree.body):
            for bound in _names_bound(statement):
                self.bound.setdefault(bound, []).append(statement)
            if isinstance(statement, ast.ImportFrom) and any(alias.name == "*" for alias in statement.names):
                self.stars.append(statement)

    @property
    def shown(self) -> str:
        """Its name, the same however it was started."""
        return os.path.splitext(os.path.basename(self.file))[0] if self.name == "__main__" else self.name

    @property
    def package(self) -> str:
        is_package = os.path.basename(self.file) == "__init__.py"
        return self.name if is_package else self.name.rpartition(".")[0]

    def find(self, qualname: str) -> list[ast.stmt]:
        """Every definition of that name; of what is made in a function, the function."""
        body = self.tree.body
        found: list[ast.stmt] = []
        for part in qualname.partition(".<locals>")[0].split("."):
            found = [statement for statement in _flat(body) if part in _names_bound(statement)]
            body = [inner for outer in found if isinstance(outer, ast.ClassDef) for inner in outer.body]
        return found


class _Walk:
    """Pieces found so far, and those whose names are still to be looked up."""

    def __init__(self) -> None:
        self.pieces: dict[str, str] = {}
        self.configs: dict[type, None] = {}
        self._waiting: list[tuple[_Module, Sequence[ast.stmt]]] = []
        self._seen: set[tuple[str, str]] = set()
        self._asked: set[tuple[str, tuple[str, ...]]] = set()

    def add_class(self, cls: type) -> bool:
        """Adds a class of a task's own line; False if its source cannot be found."""
        module = _load(cls.__module__)
        if module is None:
            return False
        nodes = module.find(cls.__qualname__)
        if not nodes:
            return False
        self._add(module, cls.__qualname__, [_without_settings(node) for node in nodes])
        return True

    def follow(self) -> None:
        """Looks up all that the pieces use."""
        while self._waiting:
            module, nodes = self._waiting.pop()
            for node in nodes:
                for words in _words_used(node):
                    self._look_up(module, words)
                for inner in ast.walk(node):
                    if isinstance(inner, (ast.Import, ast.ImportFrom)):
                        self._import_inside(module, inner)

    def _add(self, module: _Module, name: str, nodes: Sequence[ast.stmt]) -> None:
        if (module.file, name) not in self._seen:
            self._seen.add((module.file, name))
            self.pieces[f"{module.shown}.{name}"] = _digest(nodes)
            self._waiting.append((module, nodes))

    def _add_module(self, module: _Module) -> None:
        """All of a module: it is passed on as such, so anything of it may be used."""
        self._add(module, "*", module.tree.body)

    def _look_up(self, module: _Module, words: Sequence[str]) -> None:
        question = (module.file, tuple(words))
        if question in self._asked:  # also where modules import all of each other
            return
        self._asked.add(question)
        name, rest = words[0], words[1:]
        nodes = module.bound.get(name)
        if nodes is None:
            for star in module.stars:
                self._from(module, star, name, rest)
            return
        others: list[ast.stmt] = []
        for node in nodes:
            if isinstance(node, ast.Import):
                self._import(module, node, name, rest)
            elif isinstance(node, ast.ImportFrom):
                alias = next(alias for alias in node.names if (alias.asname or alias.name) == name)
                self._from(module, node, alias.name, rest)
            else:
                others.append(node)
        if others and not self._is_task(module, name):
            self._add(module, name, others)

    def _is_task(self, module: _Module, name: str) -> bool:
        """True for a task class, which is no piece of another's code; one of settings is remembered for its values."""
        found = getattr(sys.modules.get(module.name), name, None)
        if isinstance(found, Register) and issubclass(found, Config):
            self.configs.setdefault(found)
        return isinstance(found, Register)

    def _import(self, module: _Module, node: ast.Import, name: str, rest: Sequence[str]) -> None:
        for alias in node.names:
            if alias.asname == name:
                self._in_module(alias.name, rest)
            elif not alias.asname and alias.name.partition(".")[0] == name:
                self._in_module(name, rest)

    def _from(self, module: _Module, node: ast.ImportFrom, name: str, rest: Sequence[str]) -> None:
        home = _resolve(module, node)
        if home is None:
            return
        if _load(f"{home}.{name}") is not None and name not in getattr(_load(home), "bound", ()):
            self._in_module(f"{home}.{name}", rest)
            return
        found = _load(home)
        if found is not None:
            self._look_up(found, [name, *rest])

    def _import_inside(self, module: _Module, node: ast.Import | ast.ImportFrom) -> None:
        """An import in a function: what is used of it is not looked at, so all of it counts."""
        if node in _flat(module.tree.body):
            return
        for alias in node.names:
            if isinstance(node, ast.Import):
                self._in_module(alias.name, ())
            elif alias.name == "*":
                home = _resolve(module, node)
                self._in_module(home or "", ())
            else:
                self._from(module, node, alias.name, ())

    def _in_module(self, name: str, words: Sequence[str]) -> None:
        """What `words` mean in the module `name`: a module in it, something bound there, or all of it."""
        while words and _load(f"{name}.{words[0]}") is not None and words[0] not in getattr(_load(name), "bound", ()):
            name, words = f"{name}.{words[0]}", words[1:]
        module = _load(name)
        if module is None:
            return
        if words:
            self._look_up(module, words)
        else:
            self._add_module(module)


@cache
def _load(name: str) -> _Module | None:
    """The source of a module of the pipeline's own; None for any other, and where there is none."""
    file = _file_of(name)
    if not _is_own(file) or not file.endswith(".py"):
        return None
    try:
        return _Module(name, file)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def _file_of(name: str) -> str:
    """The file a module comes from, "" if it has none. Imports nothing."""
    module = sys.modules.get(name)
    if module is not None:
        return getattr(module, "__file__", None) or ""
    path = None
    spec = None
    for part in name.split("."):
        try:
            spec = importlib.machinery.PathFinder.find_spec(part, path)
        except (ImportError, ValueError):
            return ""
        if spec is None:
            return ""
        path = list(spec.submodule_search_locations or ())
    return (spec.origin if spec is not None else None) or ""


@cache
def _is_own(file: str) -> bool:
    """True for a file that belongs to somebody's pipeline: not Python's, not jubako's, not installed."""
    if not file or not os.path.isfile(file):
        return False
    real = os.path.realpath(file)
    if {"site-packages", "dist-packages"} & set(real.split(os.sep)):
        return False
    standard = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), PACKAGE)
    return not any(real.startswith(os.path.realpath(folder) + os.sep) for folder in standard)


def _resolve(module: _Module, node: ast.ImportFrom) -> str | None:
    """The module that `node` imports from."""
    if not node.level:
        return node.module
    base = module.package.split(".")
    if node.level > len(base):
        return None
    parts = base[: len(base) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _flat(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a body, with those in its `if`, `try`, `with` and loops."""
    for statement in body:
        yield statement
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for part in ("body", "orelse", "finalbody"):
                yield from _flat(getattr(statement, part, ()))
            for handler in getattr(statement, "handlers", ()):
                yield from _flat(handler.body)


def _names_bound(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, ast.Import):
        return [alias.asname or alias.name.partition(".")[0] for alias in statement.names]
    if isinstance(statement, ast.ImportFrom):
        return [alias.asname or alias.name for alias in statement.names]
    if isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [name for target in targets for name in _base_names(target)]
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        function = statement.value.func  # TABLE.update(...)
        return _base_names(function) if isinstance(function, ast.Attribute) else []
    return []


def _base_names(target: ast.expr) -> list[str]:
    """The names that assigning to `target` binds or changes."""
    while isinstance(target, (ast.Attribute, ast.Subscript, ast.Starred)):
        target = target.value
    if isinstance(target, (ast.Tuple, ast.List)):
        return [name for element in target.elts for name in _base_names(element)]
    return [target.id] if isinstance(target, ast.Name) else []


def _words_used(node: ast.AST) -> Iterator[list[str]]:
    """Names that are used below `node`, each with the attributes asked of it: ["helpers", "mean"]."""
    waiting = [node]
    while waiting:
        found = waiting.pop()
        words: list[str] = []
        inner: ast.AST = found
        while isinstance(inner, ast.Attribute):
            words.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            yield [inner.id, *reversed(words)]
        elif isinstance(found, ast.Attribute):
            waiting.append(inner)
        else:
            waiting += ast.iter_child_nodes(found)


def _without_settings(node: ast.stmt) -> ast.stmt:
    """The class without what changes how its tasks are run, and not what they make."""
    if not isinstance(node, ast.ClassDef):
        return node
    body = [statement for statement in node.body if not (names := _names_bound(statement)) or not {*names} <= _SETTINGS]
    copied = ast.ClassDef(**{name: getattr(node, name) for name in node._fields})
    copied.body = body
    return copied


def _digest(nodes: Sequence[ast.AST]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for node in nodes:
        for text in _spell(node):
            digest.update(text.encode("utf-8", "surrogatepass"))
            digest.update(b"\0")
    return digest.hexdigest()


def _spell(node: Any) -> Iterator[str]:
    """A syntax tree as texts: not where things stand, not docstrings, and no field that is empty, so that a Python with
    more fields spells the same code the same."""
    stack: list[Any] = [node]
    while stack:
        found = stack.pop()
        if isinstance(found, ast.AST):
            yield type(found).__name__
            for name in sorted(found._fields, reverse=True):
                value = getattr(found, name, None)
                if name in ("ctx", "kind", "type_comment", "type_ignores") or value is None or value == []:
                    continue
                if name == "body" and isinstance(value, list) and _is_docstring(value[0]):
                    value = value[1:]
                stack += [value, f"{name}="]
        elif isinstance(found, list):
            stack += [")", *reversed(found), "("]
        else:
            yield found if isinstance(found, str) else repr(found)


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
