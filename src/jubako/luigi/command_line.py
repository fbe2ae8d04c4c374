"""Luigi's command line: a task family, its parameters as flags, every other family's as `--Family-param`.

    MyTask --date 2021-09-01 --workers 4 --OtherTask-city Oslo --worker-keep-alive --module pipelines.daily

Values on the line are a source of parameter values (`flow.parameters.source`): those of the root task are given to its
constructor, all others are found when a task is made that needs them. An empty text counts as not given.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Self

import jubako.flow.ranges.range  # noqa: F401  (every command line knows the ranges)
from jubako.errors import InputError
from jubako.flow.loader import PipelineSource, import_source
from jubako.flow.parameters import BoolParameter, parse_argument, values_from
from jubako.flow.tasks.register import Register
from jubako.luigi import sections

__all__ = ["CmdlineParser"]

_OWN: Final = sections.jubako.get_task_family()


class CmdlineParser:
    """One command line, parsed.

    SystemExit for what argparse refuses, for --help, and where no task is named; InputError where the module cannot be
    imported or has no such task, or two families' flags are the same.
    """

    _instance: ClassVar[CmdlineParser | None] = None

    @classmethod
    def get_instance(cls) -> CmdlineParser | None:
        """The command line in force, if there is one."""
        return cls._instance

    @classmethod
    @contextmanager
    def global_instance(cls, cmdline_args: Sequence[str], allow_override: bool = False) -> Iterator[Self]:
        """Within the block, tasks take values from this command line."""
        before = CmdlineParser._instance
        if before is not None and not allow_override:
            raise AssertionError("a command line is in force already")
        parsed = cls(cmdline_args)
        CmdlineParser._instance = parsed
        try:
            with values_from(parsed._texts):
                yield parsed
        finally:
            CmdlineParser._instance = before

    def __init__(self, cmdline_args: Sequence[str]) -> None:
        arguments = list(cmdline_args)
        first, _ = _make_parser().parse_known_args(arguments)
        if first.core_module:
            import_source(PipelineSource(first.core_module, first.core_module, search=os.getcwd()))
            # Again: with the module's tasks known, other words are flags, and another one may be the task.
            first, _ = _make_parser().parse_known_args(arguments)
        parser = _make_parser(first.root_task, shows_all=bool(first.core_help_all))
        if first.core_help or first.core_help_all:
            parser.print_help()
            sys.exit()
        if not first.root_task:
            raise SystemExit("No task specified")
        self._task_cls: Any = Register.get_task_cls(first.root_task)
        self.known_args = parser.parse_args(arguments)
        self._texts = {
            (family, name): text
            for family, _, name, _ in Register.get_all_params()
            if (text := _text_of(self.known_args, _destination(family, name)))
        }

    def get_task_obj(self) -> Any:
        """The task that was asked for."""
        family = self._task_cls.get_task_family()
        values = {
            name: parse_argument(parameter, family, name, text)
            for name, parameter in self._task_cls.get_params()
            if (text := _text_of(self.known_args, name))
        }
        return self._task_cls(**values)


def _make_parser(root_task: str | None = None, *, shows_all: bool = False) -> argparse.ArgumentParser:
    """A parser for every parameter of every family; those of `root_task` also without the family's name."""
    parser = argparse.ArgumentParser(prog="luigi", add_help=False)
    try:
        _add_flags(parser, root_task, shows_all)
    except argparse.ArgumentError as error:
        raise InputError(
            f"two parameters have one flag: {error}", hint="rename a parameter of the task; those of [core] are taken"
        ) from error
    return parser


def _add_flags(parser: argparse.ArgumentParser, root_task: str | None, shows_all: bool) -> None:
    parser.add_argument("root_task", nargs="?", metavar="Required root task", help="family of the task to run")
    short: list[tuple[str, str, Any, str]] = []
    taken: set[str] = set()
    for family, is_bare, name, parameter in Register.get_all_params():
        is_root = family == root_task
        is_shown = is_root or shows_all or parameter.always_in_help
        about = (parameter.description or "").replace("%", "%%") if is_shown else argparse.SUPPRESS
        flag = _flag(name if is_bare else f"{family}_{name}")
        is_own = family == _OWN  # shown in short
        shown = argparse.SUPPRESS if is_own and not shows_all else about
        parser.add_argument(flag, help=shown, dest=_destination(family, name), **_action(parameter))
        taken.add(flag)
        if is_root:
            parser.add_argument(_flag(name), help=about, dest=name, **_action(parameter))
            taken.add(_flag(name))
        if is_own:
            short.append((_flag(name), _destination(family, name), parameter, about))
    for flag, destination, parameter, about in short:
        if flag not in taken:  # a task's own flag of that name comes first
            parser.add_argument(flag, help=about, dest=destination, **_action(parameter))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _destination(family: str, name: str) -> str:
    return f"{family}_{name}"


def _action(parameter: Any) -> dict[str, Any]:
    """How argparse takes the parameter's flag: with a value, as a flag alone, or either way."""
    if not isinstance(parameter, BoolParameter):
        return {"action": "store"}
    if parameter.parsing == BoolParameter.IMPLICIT_PARSING:
        return {"action": "store_true"}
    if parameter.parsing == BoolParameter.EXPLICIT_PARSING:
        return {"action": "store", "nargs": "?", "const": True}
    raise ValueError(f"unknown parsing value '{parameter.parsing}'")


def _text_of(known_args: argparse.Namespace, destination: str) -> str:
    """The text given for a flag; "" if none was."""
    value = getattr(known_args, destination, None)
    return str(value) if value else ""
