"""Names of targets as datasets, by OpenLineage's naming: a namespace, which is where, and a name in it.

    LocalTarget("out/a.csv")           "file", "/home/me/out/a.csv"
    StoreTarget("s3://bucket/key")     "s3://bucket", "key"

A target in memory, or one that has no path, is none. Two hosts that have a path in common have two datasets of one
name: that is OpenLineage's convention for local files.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from jubako.flow.targets.outputs import lives_in_memory
from jubako.flow.tasks.nesting import flatten

__all__ = ["MOST", "Dataset", "find_datasets"]

MOST: Final = 1_000  # of the inputs, and of the outputs, of one task


class Dataset(NamedTuple):
    """Where something is, and its name there."""

    namespace: str
    name: str


def find_datasets(targets: Any) -> list[Dataset]:
    """The datasets among a nesting of targets, each once."""
    return list(dict.fromkeys(_find(flatten(targets))))[:MOST]


def _find(targets: Iterable[Any]) -> Iterable[Dataset]:
    for target in targets:
        path = getattr(target, "absolute_path", None) or getattr(target, "path", None)
        if not isinstance(path, str) or not path or lives_in_memory([target]):
            continue
        scheme, separator, rest = path.partition("://")
        if separator and scheme in ("file", "local"):
            yield Dataset("file", f"/{rest.lstrip('/')}")
        elif separator:
            authority, _, name = rest.partition("/")
            yield Dataset(f"{scheme}://{authority}", name or "/")
        elif path.startswith("/"):
            yield Dataset("file", path)
