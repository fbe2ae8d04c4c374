"""Which points in time of a range lack their task's outputs, asked for in bulk.

A task class that has `bulk_complete` is asked. Otherwise the outputs must be files, and their directories are listed.
As in Luigi only outputs count then: a task's own `complete()` is not asked, and the outputs of a task without any are
those of its requirements.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from jubako.flow.graph.completeness import find_existing
from jubako.flow.targets.target import FileSystemTarget
from jubako.flow.tasks.nesting import flatten_output

__all__ = ["ask_bulk_complete", "infer_bulk_complete_from_fs"]


def ask_bulk_complete(of: Any, of_params: Any, parameters: Iterable[Any]) -> Iterable[Any]:
    """Those of `parameters` that are done, by `of.bulk_complete`; NotImplementedError when `of` has none.

    Its `cls` is the class with `of_params` already given, so that it makes tasks from the one parameter alone.
    """
    with_params = functools.partial(of, **of_params)
    complete: Iterable[Any] = of.bulk_complete.__func__(with_params, list(parameters))
    return complete


def infer_bulk_complete_from_fs(
    datetimes: Sequence[datetime], datetime_to_task: Callable[[datetime], Any]
) -> list[datetime]:
    """Those of `datetimes` for which an output of the task is missing.

    NotImplementedError when that can't be told from file systems: an output is no file, tasks have different numbers
    of outputs, or two have the same.
    """
    tasks = [datetime_to_task(point) for point in datetimes]
    outputs = [flatten_output(task) for task in tasks]
    for task, targets in zip(tasks, outputs, strict=True):
        if len(targets) != len(outputs[0]):
            raise NotImplementedError(
                f"Outputs must be consistent over time, sorry; was {targets!r} for {task!r} "
                f"and {outputs[0]!r} for {tasks[0]!r}"
            )
        for target in targets:
            if not isinstance(target, FileSystemTarget):
                raise NotImplementedError(
                    f"Output targets must be instances of FileSystemTarget; was {target!r} for {task!r}"
                )
    missing: set[datetime] = set()
    for column in zip(*outputs, strict=True):  # one output of all tasks after another: they share a storage
        paths = [getattr(target, "absolute_path", target.path) for target in column]
        _refuse_same_path(paths, tasks)
        existing = find_existing(column[0].fs, paths)
        missing.update(point for point, path in zip(datetimes, paths, strict=True) if path not in existing)
    return [point for point in datetimes if point in missing]


def _refuse_same_path(paths: Sequence[str], tasks: Sequence[Any]) -> None:
    seen: dict[str, int] = {}
    for index, path in enumerate(paths):
        if seen.setdefault(path, index) != index:
            raise NotImplementedError(
                f"Couldn't deduce datehour representation in output path {path!r} of task {tasks[index]}: "
                f"{tasks[seen[path]]} has the same"
            )
