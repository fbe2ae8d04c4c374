"""What a task requires, near and far: on the way to a family, and as a tree with what is done in it."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

from jubako.flow.parameters import OptionalParameter
from jubako.flow.targets.target import FileSystemTarget
from jubako.flow.tasks.nesting import flatten
from jubako.flow.tasks.task import Config
from jubako.luigi.command_line import CmdlineParser

__all__ = ["find_deps", "main", "main_tree", "print_tree", "upstream"]

_GREEN: Final = "\033[92m"
_BLUE: Final = "\033[94m"
_PLAIN: Final = "\033[0m"


class upstream(Config):
    """What `deps` looks for: `--upstream-family`."""

    family = OptionalParameter(default=None, description="show the paths to tasks of this family only")


def find_deps(task: Any, upstream_task_family: str | None) -> set[Any]:
    """All tasks on a path from `task` down to one of the family; without a family, all that it requires and itself."""
    return set(_list_deps(task, upstream_task_family))


def print_tree(task: Any, indent: str = "", last: bool = True) -> str:
    """A drawing of what `task` requires, a line each with its parameters and whether it is complete."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Task .* without outputs has no custom complete")
        is_complete = task.complete()
    state = f"{_GREEN}COMPLETE{_PLAIN}" if is_complete else f"{_BLUE}PENDING{_PLAIN}"
    corner, below = ("└─--", "    ") if last else ("|---", "|   ")
    drawn = f"\n{indent}{corner}[{type(task).__name__}-{task.to_str_params(only_significant=True)} ({state})]"
    required = flatten(task.requires())
    for number, other in enumerate(required, start=1):
        drawn += print_tree(other, indent + below, number == len(required))
    return drawn


def main(argv: Sequence[str]) -> None:
    """Prints the tasks on the way to `--upstream-family`, or all, each with its outputs."""
    with CmdlineParser.global_instance(argv) as line:
        for task in _list_deps(line.get_task_obj(), upstream().family):
            sys.stdout.write(f"   TASK: {task}\n")
            for described in map(_describe_output, flatten(task.output())):
                sys.stdout.write(f"                       : {described}\n")


def main_tree(argv: Sequence[str]) -> None:
    """Prints the tree, coloured on a terminal."""
    with CmdlineParser.global_instance(argv) as line:
        tree = print_tree(line.get_task_obj())
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        tree = re.sub(r"\033\[\d+m", "", tree)
    sys.stdout.write(f"{tree}\n")


def _list_deps(task: Any, family: str | None) -> Iterator[Any]:
    """As `find_deps`, in the order in which the tasks are found: each is asked for its requirements once."""
    requires: dict[Any, list[Any]] = {}
    queue = deque([task])
    while queue:
        found = queue.popleft()
        if found not in requires:
            requires[found] = flatten(found.requires())
            queue.extend(requires[found])
    required_by: dict[Any, list[Any]] = {found: [] for found in requires}
    for found, others in requires.items():
        for other in others:
            required_by[other].append(found)
    wanted: set[Any] = set()
    stack = [found for found in requires if family is None or found.task_family == family]
    while stack:
        found = stack.pop()
        if found not in wanted:
            wanted.add(found)
            stack.extend(required_by[found])
    return (found for found in requires if found in wanted)


def _describe_output(target: Any) -> str:
    return f"[FileSystem] {target.path}" if isinstance(target, FileSystemTarget) else "to be determined"
