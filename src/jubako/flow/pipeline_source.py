"""Which pipeline tasks belong to: what a fresh process has to import, and the name leases and history go by.

The command line says it. A program that calls `run` with task objects does not: then it is the module of the first
task's class, which for a script is `__main__` here and its own name in a worker.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jubako.errors import InputError
from jubako.flow.tasks.register import Register
from jubako.records import record

if TYPE_CHECKING:
    from jubako.flow.loader import Pipeline, PipelineSource

__all__ = ["Belonging", "find_belonging"]

_HINT = "put the tasks into a file, or run them without a box (box='none')"


@record
class Belonging:
    """`name` is the same however the pipeline is named.

    Where no `source` is given it is found when it is needed, by `text`: a file or a module that another process could
    import; "" if there is none.
    """

    name: str
    source: PipelineSource | None = None
    text: str = ""
    is_main: bool = False

    def get_source(self) -> PipelineSource:
        """What a worker imports; InputError if there is nothing to import.

        A script's module is from then on found under both of its names in this process.
        """
        if self.source is not None:
            return self.source
        if not self.text:
            raise InputError(
                f"{self.name} cannot run in boxes: its tasks are in no file that a fresh process could import",
                hint=_HINT,
            )
        from jubako.flow.loader import find_pipeline  # 10 ms that an unboxed run need not pay

        source = find_pipeline(self.text)
        if self.is_main:
            sys.modules.setdefault(source.module, sys.modules["__main__"])
        return source


def find_belonging(tasks: Sequence[Any], pipeline: Pipeline | None) -> Belonging:
    """Where `tasks` belong."""
    if pipeline is not None:
        return Belonging(pipeline.file, pipeline.source)
    name = _find_class(tasks[0]).__module__ if tasks else ""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if not file or not os.path.isfile(file):
        return Belonging(name)
    is_main = name == "__main__"
    spec = getattr(module, "__spec__", None)
    text = file if file.endswith(".py") else ""
    if is_main and spec is not None:  # python -m company.weather
        text = spec.name
    return Belonging(os.path.realpath(file), text=text, is_main=is_main)


def _find_class(task: Any) -> type:
    """The class that says where `task` belongs; a range belongs where its tasks do."""
    of = getattr(task, "of_cls", None)
    return of if isinstance(of, Register) else type(task)
