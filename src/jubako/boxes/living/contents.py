"""What a living box holds that this machine has not: looked at, and published.

Its tops are read from outside, beside the overlays. While the box runs, everything in it holds still for that, so that
what is read is of one moment: as if the machine had stopped then.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from jubako.boxes.commands.commit import commit_changes, forget_committed
from jubako.boxes.commands.result import resolve_path
from jubako.boxes.keeping.changes import read_box_changes
from jubako.boxes.keeping.kept import lock_box
from jubako.boxes.living import control
from jubako.boxes.living.life import lock_again
from jubako.boxes.views.bound_files import drop_untouched_files, is_untouched
from jubako.boxes.views.facts import is_below
from jubako.errors import ConflictError, HostError, InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.boxes.commands.commit import Committed
    from jubako.boxes.living.find import Found
    from jubako.boxes.state import StateRoot
    from jubako.layers.change import Change

__all__ = ["commit_living", "hold_contents", "read_living_changes"]


@contextmanager
def hold_contents(found: Found) -> Iterator[None]:
    """Nothing changes in the box for the time of a `with` block: it holds still, or nobody can start it."""
    line = control.connect(found.directory)
    if line is None:
        lock = lock_box(found.directory, exclusive=False)
        try:
            yield
        finally:
            os.close(lock)
        return
    with line:
        answer = line.ask("still")
        if "error" in answer:
            raise HostError(str(answer["error"]), hint="Try again, or stop the box first.")
        yield


def read_living_changes(found: Found) -> tuple[Change, ...]:
    """All changes in the box, sorted by path, each path once."""
    with hold_contents(found):
        untouched = {path for path in found.living.copies if is_untouched(path, found.living.copies[path])}
        return tuple(
            change
            for change in read_box_changes(found.directory, found.record)
            if not untouched or not _is_copy(change.path, untouched, found)
        )


def commit_living(found: Found, state: StateRoot, paths: Sequence[str], *, cwd: str | None) -> Committed:
    """Publishes the changes at and below `paths` in one transaction, and takes them out of the box, which stays.

    Relative paths are resolved against `cwd`, this process's by default. Raises ConflictError if the box runs, or if
    something else changed the same files since it was made; InputError where there is no change below one of the paths.
    """
    if found.is_running:
        raise ConflictError(
            f"box {found.name} is running, and what it holds changes",
            hint=f"'jubako box stop {found.name}' first, or commit a snapshot: 'jubako box snapshot {found.name}'.",
        )
    with lock_again(found.directory):
        drop_untouched_files(found.living.copies)
        changes = read_box_changes(found.directory, found.record)
        chosen = [resolve_path(path, cwd or os.getcwd()) for path in paths]
        for path in chosen:
            if path != "/" and not any(is_below(change.path, path) for change in changes):
                raise InputError(
                    f"box {found.name} changed nothing at or below {path}",
                    hint=f"'jubako box changes {found.name}' lists what it changed.",
                )
        committed = commit_changes(state, found.directory, found.record, changes, chosen)
        forget_committed(found.directory, found.record, committed.plan)
        return committed


def _is_copy(path: str, untouched: set[str], found: Found) -> bool:
    """Whether what looks like a change is the copy of a single file that nobody has written to."""
    return any(
        path == os.path.join(layer.target, os.path.basename(copy))
        for copy in untouched
        for layer in found.record.layers
        if os.path.dirname(copy) == os.path.join(found.directory, layer.upper)
    )
