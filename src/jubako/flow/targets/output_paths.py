"""Which task makes which path: equal and nested outputs of two tasks are found when they are declared.

Two tasks that make one path, or one that replaces a directory another writes into, would undo each other's work, and
which of the two is "done" could not be told from what is there. Pure; the cost is one look-up per output and one per
directory that was not met before.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Clash", "OutputPaths"]

T = TypeVar("T", bound=Hashable)


class Clash(NamedTuple, Generic[T]):
    """`path` of one task is equal to, inside, or around `other_path` of another (or the same) task."""

    path: str
    owner: T
    other_path: str
    other: T

    def describe(self) -> str:
        """One sentence with both names."""
        if self.path == self.other_path:
            return f"{self.other} and {self.owner} both make {self.path}"
        inner, outer = (
            (self.path, self.other_path) if len(self.path) > len(self.other_path) else (self.other_path, self.path)
        )
        of_inner, of_outer = (self.owner, self.other) if inner == self.path else (self.other, self.owner)
        if self.owner == self.other:
            return f"{self.owner} makes both {outer} and {inner}, which is inside it"
        return f"{of_outer} makes {outer}, and {of_inner} makes {inner} inside it"


class OutputPaths(Generic[T]):
    """The declared paths of a run, absolute and normalised."""

    def __init__(self) -> None:
        self._owners: dict[str, T] = {}
        self._inside: dict[str, str] = {}  # every directory above an output -> one output inside it

    def add(self, path: str, owner: T) -> Clash[T] | None:
        """Notes that `owner` makes `path`; the first clash with what was noted before, if there is one."""
        other = self._owners.setdefault(path, owner)
        if other != owner:
            return Clash(path, owner, path, other)
        inner = self._inside.get(path)
        if inner is not None:
            return Clash(path, owner, inner, self._owners[inner])
        folder = _parent(path)
        # What is above a directory that was met before was looked at then; outputs added since look at `_inside`.
        while folder != path and folder not in self._inside:
            if folder in self._owners:
                return Clash(path, owner, folder, self._owners[folder])
            self._inside[folder] = path
            folder = _parent(folder)
        return None


def _parent(path: str) -> str:
    """As os.path.dirname, for paths that are normalised already; an eighth of its cost."""
    return path.rpartition("/")[0] or "/"
