"""Which steps publish a choice of a box's changes. Pure.

new or replaced directory      one step, with all that is below it
file, link: new or changed     one step
deleted, a directory too       one step
directory with other metadata  its mode, owner and attributes are set, after everything else
new directory above a choice   made, with the metadata it has in the box, and without the rest of what is in it
"""

from __future__ import annotations

from operator import attrgetter

from jubako.boxes.views.facts import ancestors, is_below
from jubako.errors import InputError
from jubako.layers.change import Change
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

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
    copied: tuple[Change, ...] = ()  # of `contents`, when they are published: what the box still has

    def find_rest(self, changes: Sequence[Change]) -> tuple[Change, ...]:
        """Those of all the box's `changes`, sorted by path, that are not published."""
        published = iter(self.published)
        next_one = next(published, None)
        rest = []
        for change in changes:
            if next_one is not None and change.path == next_one.path:
                next_one = next(published, None)
            else:
                rest.append(change)
        return tuple(rest)


def plan_commit(changes: Sequence[Change], paths: Sequence[str], *, without: Collection[str] = ()) -> CommitPlan:
    """The plan that publishes the changes at and below `paths`, but not those of `without`; `changes` are all of the
    box's, sorted.

    Raises InputError where that is part of a directory that the box replaced as a whole: part of that alone would be
    neither the old directory nor the new one.
    """
    whole = {change.path: change for change in changes if _goes_as_a_whole(change)}
    parted = _find_parted(whole, without)
    contents: list[Change] = []
    deletions: list[Change] = []
    metadata: list[Change] = []
    published: list[Change] = []
    left_out: list[str] = []
    taken: set[str] = set()
    parents = {path for path in parted if any(is_below(path, one) for one in paths)}
    folders: dict[str, tuple[bool, bool, list[str]]] = {}  # chosen, taken, the whole directories from it upwards
    for change in changes:
        folder = change.path.rpartition("/")[0]
        known = folders.get(folder)
        if known is None:  # all above has been decided on: it sorts before
            above = [path for path in ancestors(change.path) if path in whole]
            is_chosen = any(is_below(folder or "/", path) for path in paths)
            known = folders[folder] = (is_chosen, not taken.isdisjoint(above), above)
        is_chosen, is_taken, above = known
        if not is_chosen and not any(is_below(change.path, path) for path in paths):
            continue
        if is_taken:
            published.append(change)
            continue
        if change.path in parted or change.path in without:
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
    if made:
        published += made
        published.sort(key=attrgetter("path"))
    return CommitPlan(
        tuple(contents),
        tuple(deletions),
        tuple(metadata),
        made,
        tuple(published),
        tuple(left_out),
    )


def _find_parted(whole: Mapping[str, Change], without: Collection[str]) -> set[str]:
    """The new directories that are published without something that is in them."""
    parted: set[str] = set()
    for path in without:
        for above in ancestors(path):
            if above not in whole or above in without:
                continue
            if whole[above].kind == "replaced":
                raise InputError(
                    f"{above} cannot be committed without {path}: the box replaced it as a whole",
                    hint=f"Commit {path} too, or leave out {above}.",
                )
            parted.add(above)
    return parted


def _goes_as_a_whole(change: Change) -> bool:
    return change.type == "directory" and change.kind in ("added", "replaced")
