"""Which steps publish a choice of a box's changes. Pure.

new or replaced directory      one step, with all that is below it
file, link: new or changed     one step
deleted, a directory too       one step
directory with other metadata  its mode, owner and attributes are set, after everything else
new directory above a choice   made, with the metadata it has in the box, and without the rest of what is in it
"""

from __future__ import annotations

from jubako.boxes.views.facts import ancestors, is_below
from jubako.errors import InputError
from jubako.layers.change import Change
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CommitPlan", "plan_commit"]

_PUBLISHABLE = frozenset({"file", "directory", "symlink"})


@record
class CommitPlan:
    """The steps, each list in the order of the paths."""

    contents: tuple[Change, ...] = ()  # what the box has goes in their place
    deletions: tuple[Change, ...] = ()
    metadata: tuple[Change, ...] = ()  # directories that stay
    parents: tuple[Change, ...] = ()  # new directories above a choice, not chosen themselves
    published: tuple[Change, ...] = ()  # every change that all this publishes
    left_out: tuple[str, ...] = ()  # what was chosen and cannot be published, in words


def plan_commit(changes: Sequence[Change], paths: Sequence[str]) -> CommitPlan:
    """The plan that publishes the changes at and below `paths`; `changes` are all of the box's, sorted.

    Raises InputError where a path lies in a directory that the box replaced as a whole: part of that alone would be
    neither the old directory nor the new one.
    """
    whole = {change.path: change for change in changes if _goes_as_a_whole(change)}
    contents: list[Change] = []
    deletions: list[Change] = []
    metadata: list[Change] = []
    published: list[Change] = []
    left_out: list[str] = []
    taken: set[str] = set()
    parents: set[str] = set()
    for change in changes:
        if not any(is_below(change.path, path) for path in paths):
            continue
        above = [path for path in ancestors(change.path) if path in whole]
        if taken.intersection(above):
            published.append(change)
            continue
        for path in above:
            if whole[path].kind == "replaced":
                raise InputError(
                    f"{change.path} cannot be committed alone: the box replaced {path} as a whole",
                    hint=f"Commit {path}.",
                )
        if change.kind == "deleted":
            deletions.append(change)
        elif change.type not in _PUBLISHABLE:
            left_out.append(f"{change.path}: a {change.type}, left out")
            continue
        elif change.kind == "metadata" and change.type == "directory":
            metadata.append(change)
        else:
            contents.append(change)
        if change.path in whole:
            taken.add(change.path)
        parents.update(above)
        published.append(change)
    made = tuple(whole[path] for path in sorted(parents))
    return CommitPlan(
        tuple(contents),
        tuple(deletions),
        tuple(metadata),
        made,
        tuple(sorted([*made, *published])),
        tuple(left_out),
    )


def _goes_as_a_whole(change: Change) -> bool:
    return change.type == "directory" and change.kind in ("added", "replaced")
