"""How long history is kept. A run, its attempts and the logs of what they printed go together.

    too old     the run began more than 90 days ago
    too many    it is not among the newest 5,000 runs
    too large   the logs of all runs together are over 1 GiB: the oldest runs go, but none in which the last attempt at
                some task failed, since that log is the one somebody may still want to read

A run that lives, or that died and waits for recovery, has its directory in stage/, and is left alone. Rows go first,
then files; files whose row has gone are removed by the next run, so this may be killed anywhere. It is done once, when
a run begins, and costs a listing of logs/ and a reading of the table of runs. Files are looked at only of runs that
were killed before they could say how much they had printed.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from jubako.boxes.database import write_transaction
from jubako.boxes.state import StateRoot
from jubako.layers.remove import remove_tree

__all__ = ["KEPT", "KeptRun", "Limits", "plan_pruning", "prune"]

_FAILED: Final = "('failed', 'timeout', 'conflict')"


class Limits(NamedTuple):
    """What is kept at most."""

    age_s: float = 90 * 86_400
    runs: int = 5_000
    log_bytes: int = 1 << 30


KEPT: Final = Limits()


class KeptRun(NamedTuple):
    """A run that is over. `log_bytes` is the size of its logs."""

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
    """Removes what is beyond `limits` from the ledger and from logs/. Safe while other runs live or do the same.

    What cannot be removed now is left to the next run.
    """
    # In this order: a run has its directory in stage/ before its row, and its row before its logs.
    logged = set(os.listdir(state.logs_path))
    rows = connection.execute("SELECT number, run_id, started_s, log_bytes FROM runs ORDER BY number").fetchall()
    staged = set(os.listdir(state.stage_path))
    over = [row for row in rows if row[1] not in staged]
    measured = {row[0]: _measure(state, row[1]) if row[1] in logged else 0 for row in over if row[3] is None}
    runs = [KeptRun(number, run_id, started_s, measured.get(number, size)) for number, run_id, started_s, size in over]
    gone = plan_pruning(runs, now_s, limits, find_wanted=lambda: _find_wanted(connection))
    if measured or gone:
        with write_transaction(connection):
            connection.executemany(
                "UPDATE runs SET log_bytes = ? WHERE number = ?", [(size, number) for number, size in measured.items()]
            )
            _drop_rows(connection, [run.number for run in gone])
    kept = {run_id for _, run_id, *_ in rows} - {run.run_id for run in gone}
    for run_id in logged - kept - staged:
        with suppress(OSError):
            remove_tree(os.path.join(state.logs_path, run_id))


def _measure(state: StateRoot, run_id: str) -> int:
    """The size of a run's logs; of those that another process removes meanwhile, nothing."""
    with suppress(FileNotFoundError), os.scandir(os.path.join(state.logs_path, run_id)) as entries:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    return 0


def _find_wanted(connection: sqlite3.Connection) -> set[int]:
    """Runs in which the last attempt at some task failed."""
    last = "SELECT max(number) FROM attempts GROUP BY pipeline, task_id"
    return {
        run
        for (run,) in connection.execute(
            f"SELECT DISTINCT run FROM attempts WHERE outcome IN {_FAILED} AND number IN ({last})"
        )
    }


def _drop_rows(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    these = json.dumps(list(numbers))
    for table, column in (("attempts", "run"), ("leases", "run"), ("runs", "number")):
        connection.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", (these,))
