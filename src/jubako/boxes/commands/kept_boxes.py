"""What can be done with a kept box: look at its changes, go in, commit some of it, remove it.

Its uppers are never written to: who goes in gets a new top, which is dropped afterwards. What is committed is taken out
of it, and a box of which nothing is left is removed.
"""

from __future__ import annotations

import os

from jubako.boxes.commands.result import BoxResult, resolve_path
from jubako.boxes.keeping.changes import read_box_changes
from jubako.boxes.keeping.kept import (
    KeptBoxes,
    find_box_id,
    hold_box,
    list_box_ids,
    list_boxes,
    lock_box,
    read_box,
    remove_box,
    sweep_boxes,
)
from jubako.boxes.spec import WHOLE_HOST
from jubako.boxes.state import default_state_root
from jubako.boxes.views.facts import is_below
from jubako.errors import InputError
from jubako.layers.walk import open_top, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jubako.boxes.commands.commit import Committed
    from jubako.boxes.commands.first import Program
    from jubako.boxes.keeping.kept_record import BoxRecord
    from jubako.boxes.spec import Box
    from jubako.boxes.state import StateRoot
    from jubako.boxes.transactions.journal import Durability
    from jubako.layers.change import Change

__all__ = ["commit_box", "enter_box", "kept_box_ids", "kept_boxes", "measure_box", "read_kept_changes", "remove_boxes"]


def kept_boxes(state: StateRoot | None = None) -> KeptBoxes:
    """The kept boxes, oldest first; what killed runs left is swept."""
    root = state or default_state_root()
    sweep_boxes(root.boxes_path)
    return list_boxes(root.boxes_path)


def kept_box_ids(state: StateRoot | None = None) -> list[str]:
    """The ids of all kept boxes, those whose record cannot be read too."""
    return list_box_ids((state or default_state_root()).boxes_path)


def measure_box(record: BoxRecord, state: StateRoot | None = None) -> int:
    """The bytes that the files of a kept box take on the disk."""
    total = 0
    with open_top(os.path.join((state or default_state_root()).boxes_path, record.id)) as top:
        for folder in walk(top):
            total += sum(found.st_blocks * 512 for _, found in folder.entries)
    return total


def read_kept_changes(box_id: str, state: StateRoot | None = None) -> tuple[BoxRecord, tuple[Change, ...]]:
    """The record of the kept box `box_id` (or a unique start of an id), and what it holds that this machine has not."""
    root = state or default_state_root()
    directory = _find(root, box_id)
    with hold_box(directory, exclusive=False):
        record = read_box(root.boxes_path, os.path.basename(directory))
        return record, read_box_changes(directory, record)


def enter_box(
    box_id: str,
    argv: Sequence[str],
    box: Box = WHOLE_HOST,
    *,
    cwd: str | None = None,
    environment: Mapping[str, str] | None = None,
    stdio: tuple[int, int, int] = (0, 1, 2),
    state: StateRoot | None = None,
    adapt: Callable[[Program], Program] = lambda program: program,
) -> BoxResult:
    """Runs `argv` in the kept box `box_id`, with a new top that is dropped; `cwd` is the box's own by default.

    `adapt` has a last word about the program. Nobody can commit or remove the box meanwhile. ConflictError if somebody
    is doing that now.
    """
    # Listing boxes takes none of this, which is most of what there is to import.
    from jubako.boxes.commands.first import Program
    from jubako.boxes.commands.launch import run_in_new_box
    from jubako.boxes.keeping.staged_layer import make_staged_layer
    from jubako.boxes.nesting import refuse_nesting
    from jubako.boxes.views.plan_wide import Stacked

    refuse_nesting()
    root = state or default_state_root()
    directory = _find(root, box_id)
    with hold_box(directory, exclusive=False):
        record = read_box(root.boxes_path, os.path.basename(directory))
        program = Program(argv, cwd or record.cwd, dict(os.environ if environment is None else environment), stdio)

        def stack(place: str, *, userxattr: bool, targets: Sequence[str]) -> tuple[Stacked, ...]:
            kept = (Stacked(layer.target, os.path.join(directory, layer.upper)) for layer in record.layers)
            return (*make_staged_layer(directory, record, place, userxattr=userxattr), *kept)

        return run_in_new_box(adapt(program), box, root, stack=stack)


def commit_box(
    box_id: str,
    paths: Sequence[str] = ("/",),
    *,
    cwd: str | None = None,
    leave_out: Callable[[Change], bool] | None = None,
    durability: Durability = "full",
    state: StateRoot | None = None,
) -> Committed:
    """Publishes the changes of a kept box at and below `paths` in one transaction, and takes them out of the box.

    Relative paths are resolved against `cwd`, this process's by default; changes that `leave_out` is true for stay in
    the box. Conflicts are looked for afresh. Raises InputError where there is no change below one of the paths.
    """
    from jubako.boxes.commands.commit import (  # SQLite: 10 ms to import, for those who publish
        commit_changes,
        forget_committed,
    )

    root = state or default_state_root()
    directory = _find(root, box_id)
    with hold_box(directory, exclusive=True):
        record = read_box(root.boxes_path, os.path.basename(directory))
        changes = read_box_changes(directory, record)
        chosen = [resolve_path(path, cwd or os.getcwd()) for path in paths]
        for path in chosen:
            if path != "/" and not any(is_below(change.path, path) for change in changes):
                raise InputError(
                    f"box {record.id} changed nothing at or below {path}",
                    hint=f"'jubako box changes {record.id}' lists what it changed.",
                )
        without = frozenset(change.path for change in changes if leave_out(change)) if leave_out else frozenset()
        committed = commit_changes(root, directory, record, changes, chosen, without=without, durability=durability)
        forget_committed(directory, record, committed.plan)
        if not committed.plan.find_rest(changes):
            remove_box(directory)
        return committed


def remove_boxes(box_ids: Sequence[str], state: StateRoot | None = None) -> list[str]:
    """Removes kept boxes; their ids. None is removed if one of them is unknown or somebody is in it (ConflictError)."""
    root = state or default_state_root()
    directories = dict.fromkeys(_find(root, box_id) for box_id in box_ids)
    locks: list[int] = []
    try:
        for directory in directories:
            locks.append(lock_box(directory, exclusive=True))
        for directory in directories:
            remove_box(directory)
    finally:
        for fd in locks:
            os.close(fd)
    return [os.path.basename(directory) for directory in directories]


def _find(state: StateRoot, box_id: str) -> str:
    return os.path.join(state.boxes_path, find_box_id(state.boxes_path, box_id))
