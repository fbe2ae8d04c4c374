"""Whether a run lives: it holds an flock on `stage/RUN/lock` from before it writes anything until it has cleaned up.

The lock goes with the open file: it ends with the last process that inherited it, also by kill -9. Making a run's
directory and looking for dead runs exclude each other through an flock on the `stage` directory itself, so that a run
that has made its directory and not yet its lock is never taken for dead.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager

from jubako.errors import BugError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from jubako.boxes.state import StateRoot

__all__ = ["LOCK_NAME", "hold_sweeping", "is_run_locked", "lock_dead_run", "lock_new_run"]

LOCK_NAME = "lock"


def lock_new_run(state: StateRoot, run_id: str) -> int:
    """Makes `stage/RUN` and its lock, held by the descriptor returned. Waits for a sweep that is going on.

    A run id that is in use by a living run is a BugError.
    """
    folder = _folder(state, run_id)
    with _flock(state.stage_path, fcntl.LOCK_SH):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        fd = os.open(os.path.join(folder, LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise BugError(f"run {run_id} is living already") from error
        return fd


@contextmanager
def hold_sweeping(state: StateRoot) -> Iterator[None]:
    """Only one process of a state root at a time is in here; the others wait."""
    with _flock(state.stage_path, fcntl.LOCK_EX):
        yield


@contextmanager
def lock_dead_run(state: StateRoot, run_id: str) -> Iterator[bool]:
    """True, and the run's lock held, if run `run_id` is dead; False if it lives. Only while sweeping."""
    try:
        fd = os.open(os.path.join(_folder(state, run_id), LOCK_NAME), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:  # died before it had a lock, or nothing but rows is left of it
        yield True
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(fd)


def is_run_locked(state: StateRoot, run_id: str) -> bool:
    """True while somebody holds the run's lock. For onlookers: needs no more than the right to read.

    PermissionError where there isn't even that. Sweeping waits meanwhile, or it would take this look for a living run.
    """
    try:
        with _flock(state.stage_path, fcntl.LOCK_SH):
            fd = os.open(os.path.join(_folder(state, run_id), LOCK_NAME), os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(fd)
            return False
    except FileNotFoundError:  # it is over
        return False


@contextmanager
def _flock(folder: str, how: int) -> Iterator[None]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)


def _folder(state: StateRoot, run_id: str) -> str:
    if not run_id or "/" in run_id or run_id in (".", ".."):
        raise BugError(f"run id {run_id!r} is no file name")
    return os.path.join(state.stage_path, run_id)
