"""The import hook: `luigi` and its modules, made of names that live elsewhere, found when they are first used.

A finder in front of all others answers for `luigi` and everything below, so that Luigi itself, if it is installed, is
never half in use. Modules are empty shells; each name is looked up once and then kept in the shell.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import Any, Final

from jubako.errors import InputError
from jubako.luigi.left_out import describe_left_out
from jubako.luigi.names import HOMES

__all__ = ["install", "uninstall"]


# Modules that `from luigi import *` gives, too.
_STARRED: Final = {
    "luigi": [
        "task", "target", "rpc", "parameter", "configuration", "interface", "local_target", "event", "range",
        "__version__",
    ]
}  # fmt: skip


class AliasModule(ModuleType):
    """A module of Luigi. Its names and submodules are looked up when somebody asks for them."""

    def __getattr__(self, name: str) -> Any:
        homes = HOMES[self.__name__]
        if name in homes:
            home, theirs = homes[name]
            value = getattr(importlib.import_module(home), theirs)
            vars(self)[name] = value
            return value
        if self.__name__ == "luigi" and name == "range":  # as Luigi, which loads it unless told otherwise
            return importlib.import_module("luigi.tools.range")
        if f"{self.__name__}.{name}" in HOMES:
            return importlib.import_module(f"{self.__name__}.{name}")
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        below = [module.rpartition(".")[2] for module in HOMES if module.rpartition(".")[0] == self.__name__]
        return sorted({*HOMES[self.__name__], *below, *vars(self)})


class _AliasLoader(Loader):
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = AliasModule(spec.name, f"{spec.name}, as jubako has it.")
        names = [name for name in HOMES[spec.name] if not name.startswith("_")]
        module.__all__ = names + _STARRED.get(spec.name, [])  # type: ignore[attr-defined]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to execute."""


class _AliasFinder(MetaPathFinder):
    """Finds modules of Luigi here, and nowhere else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != "luigi":
            return None
        if fullname in HOMES:
            # As packages all of them: a module that is left out below one is then looked for here, and refused.
            return importlib.machinery.ModuleSpec(fullname, _AliasLoader(), origin="jubako", is_package=True)
        why = describe_left_out(fullname)
        if why is not None:
            raise ImportError(why, name=fullname)
        raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


_FINDER = _AliasFinder()
_installed = ExitStack()


def install() -> None:
    """Makes `import luigi` mean jubako in this process, settings files included. Idempotent.

    InputError if Luigi itself is in use already: its classes and ours would meet.
    """
    if _FINDER in sys.meta_path:
        return
    known = sys.modules.get("luigi")
    if known is not None:
        raise InputError(
            f"luigi is imported already, from {getattr(known, '__file__', None) or 'elsewhere'}",
            hint="call jubako.luigi.install() before anything imports luigi, or run `python -m jubako.luigi`",
        )
    from jubako.flow import date_interval
    from jubako.flow.parameters import values_from
    from jubako.luigi.configuration import Settings

    sys.meta_path.insert(0, _FINDER)
    _installed.callback(_forget)
    for name in HOMES["luigi.date_interval"]:  # people print the types of intervals
        cls = getattr(date_interval, name)
        _installed.callback(setattr, cls, "__module__", cls.__module__)
        cls.__module__ = "luigi.date_interval"
    _installed.enter_context(values_from(Settings()))


def uninstall() -> None:
    """Undoes `install`. Modules that have imported luigi keep what they have. Idempotent."""
    _installed.close()


def _forget() -> None:
    sys.meta_path.remove(_FINDER)
    for name in [name for name in sys.modules if name.partition(".")[0] == "luigi"]:
        del sys.modules[name]
