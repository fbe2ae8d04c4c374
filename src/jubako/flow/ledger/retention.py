"""How long history is kept. A run, its attempts and the logs of what they printed go together.

    too old     the run began more than 90 days ago
    too many    it is not among the newest 5,000 runs
    too large   the logs of all runs together are over 1 GiB: the oldest runs go, but none in which the last attempt at
                some task failed, since that log is the one somebody may still want to read

A run that lives, or that died and waits for recovery, has its directory in stage/, and is left alone; so is a backfill
that is paused, however long, since it lives and may go on. One that was killed meanwhile is over. Files go first, then
rows; whoever is killed in between leaves rows whose files the next run finds gone. It is done once, when a run begins,
and costs a listing of logs/ and a reading of the table of runs. Files are looked at only of runs that were killed
before they could say how much they had printed.

Logs that the ledger knows nothing of (it was lost) stay as long as any: a folder goes when its name has the form of a
run's and it was last changed more than 90 days ago. Whatever else is in logs/ is somebody else's.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple

from jubako.boxes.state import StateRoot
from jubako.boxes.transactions.database import explain_database_error, write_transaction
from jubako.errors import HostError
from jubako.flow.ledger.ledger import FAILURES
from jubako.flow.ledger.run_id import is_run_id
from jubako.layers.remove import remove_tree

__all__ = ["KEPT", "KeptRun", "Limits", "plan_pruning", "prune"]


class Limits(NamedTuple):
    """What is kept at most."""

    age_s: float = 90 * 86_400
    runs: int = 5_000
    log_bytes: int = 1 << 30


KEPT: Final = Limits()


class KeptRun(NamedTuple):
    """A run that is over. `log_bytes` is the size of its logs, 0 where it cannot be known."""

    number: int
    run_id: str
    started_s: float
    log_bytes: int


def plan_pruning(
    runs: Sequence[KeptRun], now_s: float, limits: Limits, *, find_wanted: Callable[[], Collection[int]]
) -> list[KeptRun]:
    """Which of `runs`, the oldest first, are to go.

    `find_wanted` is asked, if it matters, for the numbers of runs whose logs must not go for their size.
    """
    many = max(0, len(runs) - limits.runs)
    gone: list[KeptRun] = []
    left: list[KeptRun] = []
    for place, run in enumerate(runs):
        (gone if place < many or run.started_s < now_s - limits.age_s else left).append(run)
    over_bytes = sum(run.log_bytes for run in left) - limits.log_bytes
    if over_bytes > 0:
        wanted = find_wanted()
        for run in left:
            if over_bytes > 0 and run.log_bytes and run.number not in wanted:
                gone.append(run)
                over_bytes -= run.log_bytes
    return gone


def prune(connection: sqlite3.Connection, state: StateRoot, now_s: float, limits: Limits = KEPT) -> None:
    """Removes what is beyond `limits` from logs/ and the ledger. Safe while other runs live or do the same.

    What cannot be measured or removed now is left to the next run; when all else is done, HostError says what it is.
    """
    try:
        failed = _prune(connection, state, now_s, limits)
    except OSError as error:
        raise HostError(f"old history cannot be tidied: {error}", hint=f"look at who owns {state.path}") from error
    except sqlite3.DatabaseError as error:
        explained = explain_database_error(error, state.ledger_path)
        if explained is None:
            raise
        raise explained from error
    if failed:
        run_id, first = next(iter(failed.items()))
        path = os.path.join(state.logs_path, run_id)
        whose = "an earlier run" if len(failed) == 1 else f"{len(failed)} earlier runs"
        raise HostError(
            f"the logs of {whose} cannot be measured or removed: {path}: {first.strerror}",
            hint=f"look at who owns {path}; it can be removed by hand",
        ) from first


def _prune(connection: sqlite3.Connection, state: StateRoot, now_s: float, limits: Limits) -> dict[str, OSError]:
    """Prunes what it can; what stood in the way, by run."""
    # In this order: a run has its directory in stage/ before its row, and its row before its logs.
    logged = set(os.listdir(state.logs_path))
    rows = connection.execute("SELECT number, run_id, started_s, log_bytes FROM runs ORDER BY number").fetchall()
    staged = set(os.listdir(state.stage_path))
    failed: dict[str, OSError] = {}
    measured: dict[int, int] = {}
    runs: list[KeptRun] = []
    for number, run_id, started_s, log_bytes in rows:
        if run_id in staged:
            continue
        size = log_bytes
        if size is None:
            try:
                size = _measure(state, run_id)
            except OSError as error:
                failed[run_id] = error
            if size is not None:
                measured[number] = size
        runs.append(KeptRun(number, run_id, started_s, size or 0))
    gone = plan_pruning(runs, now_s, limits, find_wanted=lambda: _find_wanted(connection))
    strays = logged - {run_id for _, run_id, *_ in rows} - staged
    for run_id in (
        *(run.run_id for run in gone),
        *(name for name in strays if is_run_id(name) and _is_old_folder(state, name, now_s - limits.age_s)),
    ):
        try:
            remove_tree(os.path.join(state.logs_path, run_id))
            failed.pop(run_id, None)
        except OSError as error:
            failed[run_id] = error
    if measured or gone:
        with write_transaction(connection):
            connection.executemany(
                "UPDATE runs SET log_bytes = ? WHERE number = ?", [(size, number) for number, size in measured.items()]
            )
            _drop_rows(connection, [run.number for run in gone if run.run_id not in failed])
    return failed


def _measure(state: StateRoot, run_id: str) -> int | None:
    """The size of a run's logs, None while another process removes them; OSError if they cannot be looked at whole."""
    try:
        entries = os.scandir(os.path.join(state.logs_path, run_id))
    except FileNotFoundError:  # it printed nothing
        return 0
    with entries:
        try:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
        except FileNotFoundError:
            return None


def _is_old_folder(state: StateRoot, name: str, before_s: float) -> bool:
    try:
        status = os.lstat(os.path.join(state.logs_path, name))
    except FileNotFoundError:  # another run has removed it meanwhile
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_mtime < before_s


def _find_wanted(connection: sqlite3.Connection) -> set[int]:
    """Runs in which the last attempt at some task failed."""
    last = "SELECT max(number) FROM attempts GROUP BY pipeline, task_id"
    return {
        run
        for (run,) in connection.execute(
            f"SELECT DISTINCT run FROM attempts WHERE outcome IN {FAILURES} AND number IN ({last})"
        )
    }


def _drop_rows(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    these = json.dumps(list(numbers))
    for table, column in (("attempts", "run"), ("leases", "run"), ("runs", "number")):
        connection.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", (these,))
