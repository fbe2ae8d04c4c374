"""Publishing what a task wrote without declaring it, where its box says `undeclared="publish"`.

What it wrote was copied out of the box; here it is put beside its place, and becomes further moves of the task's own
transaction, before the declared ones: the completion mark stays last. There is no signature from the start for a path
nobody named, so anything that changed on this machine since then is a conflict.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from jubako.boxes.commands.plan_commit import plan_commit
from jubako.boxes.spec import Output
from jubako.boxes.transactions.publish import Move
from jubako.boxes.transactions.signature import Signature, take_signature
from jubako.boxes.transactions.stage import StageArea
from jubako.errors import ConflictError
from jubako.layers.change import Change
from jubako.layers.copy import copy_file, copy_tree

__all__ = ["stage_undeclared"]


def stage_undeclared(
    area: StageArea, stage_id: str, changes: Sequence[Change], directory: str, started_s: float
) -> tuple[list[Move], list[str]]:
    """The moves that publish `changes`, whose contents are in `directory` by absolute path; and what is left out.

    The caller discards `stage_id`. Raises ConflictError for a path that changed since `started_s`.
    """
    plan = plan_commit(sorted(changes), ["/"])
    moves = [Move(None, change.path, _expect(change.path, started_s)) for change in plan.deletions]
    left_out = [*plan.left_out]
    left_out += [f"{change.path}: new permissions of a directory, left out" for change in plan.metadata]
    places = area.stage(stage_id, [Output(change.path) for change in plan.contents])
    for change, place in zip(plan.contents, places, strict=True):
        copy = copy_tree if change.type == "directory" else copy_file
        left_out += copy(directory + change.path, place.staged, shown=change.path)
        moves.append(Move(place.staged, change.path, _expect(change.path, started_s)))
    return moves, left_out


def _expect(path: str, started_s: float) -> Signature | None:
    """What is at `path` now, if it has been so since `started_s`."""
    signature = take_signature(path)
    if signature is not None and os.lstat(path).st_ctime > started_s:
        raise ConflictError(
            f"{path}, which the task changed without declaring it, was changed by another program meanwhile",
            hint="nothing of this task was published; run it again, or declare the path",
        )
    return signature
