"""Sorts what a job wrote: its outputs, what comes with them, scratch, and what nobody declared. Pure.

    declared output, or below one          its own; a declared output wins over everything that follows
    a folder made for an output            goes with it
    OUTPUT-wal, -shm, -journal             belong to a SQLite output (`collect` refuses to publish over an open one)
    OUTPUT-luigi-tmp-123...                a left-over temporary, dropped
    below /tmp, caches in the home         scratch: dropped and counted
    anything else                          undeclared: dropped, refused or published, and always reported

Something below /tmp is no scratch where a job has business there: its working directory, its home, the folder of an
output. A folder that was made only to hold scratch is scratch.
"""

from __future__ import annotations

import os

from jubako.boxes.views.facts import is_below
from jubako.layers.change import Change
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["COMPANIONS", "Business", "Sorted", "sort_changes"]

COMPANIONS = ("-wal", "-shm", "-journal")  # sqlite.org/tempfiles.html

_TEMPORARIES = ("-luigi-tmp-", "-jubako-tmp-")
_SCRATCH = "/tmp"
_CACHE_NAMES = frozenset({"__pycache__", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
_HOME_CACHES = (
    *(".cache", ".ccache", ".triton", ".nv", ".matplotlib", ".config/matplotlib", ".npm", ".yarn/cache"),
    *(".cargo/registry", ".gradle", ".ivy2", ".m2", ".python_history", ".wget-hsts", ".rnd"),
)


@record
class Business:
    """Where a job had something to do. Real paths."""

    outputs: tuple[str, ...]
    folders: tuple[str, ...]  # working directory, home, folders of outputs
    home: str = ""


@record
class Sorted:
    """What was written that is no output, sorted by path."""

    undeclared: tuple[Change, ...]
    scratch: int  # entries


def sort_changes(changes: Iterable[Change], business: Business) -> Sorted:
    """Tells the undeclared among `changes` from outputs, what comes with them, and scratch."""
    undeclared: list[Change] = []
    dropped: list[str] = []
    scratch = 0
    for change in changes:
        if _belongs_to_output(change, business.outputs):
            dropped.append(change.path)
        elif is_scratch(change.path, business):
            dropped.append(change.path)
            scratch += 1
        else:
            undeclared.append(change)
    return Sorted(tuple(_without_holders(undeclared, dropped)), scratch)


def is_scratch(path: str, business: Business) -> bool:
    """True if `path` is in a place for what may be lost."""
    if not _CACHE_NAMES.isdisjoint(path.split("/")):
        return True
    home = business.home
    if home and any(is_below(path, f"{home}/{cache}") for cache in _HOME_CACHES):
        return True
    if not is_below(path, _SCRATCH):
        return False
    return not any(folder != _SCRATCH and is_below(path, folder) for folder in business.folders)


def _belongs_to_output(change: Change, outputs: Sequence[str]) -> bool:
    path = change.path
    for output in outputs:
        if is_below(path, output):
            return True
        if change.kind == "added" and change.type == "directory" and is_below(output, path):
            return True
        if path.startswith(output) and path[len(output) :].startswith((*COMPANIONS, *_TEMPORARIES)):
            return True
    return False


def _without_holders(undeclared: Sequence[Change], dropped: Iterable[str]) -> list[Change]:
    """`undeclared` without the new folders that hold only what was dropped."""
    holders: set[str] = set()
    for path in dropped:
        holders.update(_parents(path))
    if not holders:
        return sorted(undeclared)
    news = {change.path for change in undeclared if _is_new_folder(change)}
    needed: set[str] = set()
    for change in undeclared:
        if change.path not in holders or change.path not in news:
            needed.add(change.path)
            needed.update(_parents(change.path))
    return sorted(change for change in undeclared if change.path in needed)


def _is_new_folder(change: Change) -> bool:
    return change.kind == "added" and change.type == "directory"


def _parents(path: str) -> Iterable[str]:
    while path != "/":
        path = os.path.dirname(path)
        yield path
