"""Being there: a run holds its lock from before it asks anything until it is over, so that others know it lives.

A run in boxes holds it through its staging area, after recovery. A run that stages nothing holds only
the lock; recovery is imported when there is something of another run to look at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from jubako.boxes.run_lock import LOCK_NAME, lock_dead_run, lock_new_run
from jubako.boxes.state import StateRoot

__all__ = ["has_remains", "hold_presence", "is_living"]


@contextmanager
def hold_presence(state: StateRoot, run_id: str) -> Iterator[None]:
    """Holds the lock of a run that stages nothing, and removes its directory at the end."""
    fd = lock_new_run(state, run_id)
    try:
        yield
    finally:
        folder = os.path.join(state.stage_path, run_id)
        with suppress(FileNotFoundError):  # a person has cleaned up
            os.unlink(os.path.join(folder, LOCK_NAME))
            os.rmdir(folder)
        os.close(fd)


def is_living(state: StateRoot, run_id: str) -> bool:
    """True while somebody holds that run's lock."""
    with lock_dead_run(state, run_id) as is_dead:
        return not is_dead


def has_remains(state: StateRoot) -> bool:
    """True if another run lives, or has died and left something. A run's directory is the last that goes."""
    with os.scandir(state.stage_path) as entries:
        return next(entries, None) is not None
