"""Which pipeline tasks belong to: what a fresh process has to import, and the name leases and history go by.

The command line says it. A program that calls `run` with task objects does not: then it is the module of the first
task's class, which for a script is `__main__` here and its own name in a worker.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jubako.errors import InputError
from jubako.flow.loader import Pipeline, PipelineSource, find_pipeline

__all__ = ["Belonging", "find_belonging"]

_HINT = "put the tasks into a file, or run them without a box (box='none')"


@dataclass(frozen=True, slots=True)
class Belonging:
    """`name` is the same however the pipeline is named. `source` is None where no other process could import it."""

    name: str
    source: PipelineSource | None
    is_main: bool = False

    def get_source(self) -> PipelineSource:
        """What a worker imports; InputError if there is nothing to import."""
        if self.source is None:
            raise InputError(
                f"{self.name} cannot run in boxes: its tasks are in no file that a fresh process could import",
                hint=_HINT,
            )
        return self.source


def find_belonging(tasks: Sequence[Any], pipeline: Pipeline | None) -> Belonging:
    """Where `tasks` belong. A script's module is from now on found under both of its names in this process."""
    if pipeline is not None:
        return Belonging(pipeline.file, pipeline.source)
    if not tasks:
        return Belonging("", None)
    name = type(tasks[0]).__module__
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if module is None or not file or not os.path.isfile(file):
        return Belonging(name, None)
    spec = getattr(module, "__spec__", None)
    is_main = name == "__main__"
    if is_main and spec is not None:  # python -m company.weather
        source = find_pipeline(spec.name)
    elif file.endswith(".py"):
        source = find_pipeline(file)
    else:
        return Belonging(os.path.realpath(file), None)
    if is_main:
        sys.modules.setdefault(source.module, module)
    return Belonging(os.path.realpath(file), source, is_main)
