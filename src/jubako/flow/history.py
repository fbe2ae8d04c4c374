"""Reading the ledger: runs, attempts, the state of dated tasks. Nothing here changes anything.

A row says what happened, not what is there: an output that was removed since is still "published" here.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jubako.boxes.database import ensure_schema
from jubako.flow.ledger import storable
from jubako.flow.partitions import Interval, list_partitions
from jubako.flow.schema import MIGRATIONS

__all__ = ["History", "PastAttempt", "PastRun"]


class PastRun(NamedTuple):
    """A run as history. `ended_s` None: it is running, or was killed."""

    run_id: str
    asked: str
    mode: str
    pid: int
    started_s: float
    ended_s: float | None
    status: str
    counts: Mapping[str, int]


class PastAttempt(NamedTuple):
    """An attempt as history."""

    run_id: str
    attempt_id: str
    task_id: str
    label: str
    outcome: str
    error: str
    started_s: float
    wall_s: float
    cpu_s: float
    peak_bytes: int
    undeclared: Sequence[str]


class History:
    """The history in one database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        ensure_schema(connection, "ledger", MIGRATIONS)
        self._connection = connection

    def list_runs(self, pipeline: str | None = None, *, limit: int = 50) -> list[PastRun]:
        """The newest runs first, of one pipeline or of all."""
        rows = self._connection.execute(
            "SELECT run_id, asked, mode, pid, started_s, ended_s, status, counts FROM runs"
            " JOIN pipelines ON pipelines.number = runs.pipeline WHERE ?1 IS NULL OR name = ?1"
            " ORDER BY runs.number DESC LIMIT ?2",
            (None if pipeline is None else storable(pipeline), limit),
        )
        return [PastRun(*(*row[:-1], json.loads(row[-1]))) for row in rows]

    def list_attempts(self, pipeline: str, task_id: str, *, limit: int = 50) -> list[PastAttempt]:
        """The newest attempts at one task first."""
        rows = self._connection.execute(
            "SELECT run_id, attempt_id, task_id, label, outcome, error, attempts.started_s, wall_s, cpu_s, peak_bytes,"
            " undeclared FROM attempts JOIN runs ON runs.number = attempts.run"
            " JOIN pipelines ON pipelines.number = attempts.pipeline"
            " WHERE name = ? AND task_id = ? ORDER BY attempts.number DESC LIMIT ?",
            (storable(pipeline), task_id, limit),
        )
        return [PastAttempt(*(*row[:-1], json.loads(row[-1]))) for row in rows]

    def list_last_outcomes(self, prefix: str = "") -> list[tuple[str, str]]:
        """Ids of tasks that begin with `prefix`, each with how its last attempt ended; the last attempted first."""
        return self._connection.execute(
            "SELECT task_id, outcome FROM attempts WHERE number IN (SELECT max(number) FROM attempts"
            " WHERE substr(task_id, 1, length(?1)) = ?1 GROUP BY pipeline, task_id) ORDER BY number DESC",
            (storable(prefix),),
        ).fetchall()

    def list_intervals(self, pipeline: str, family: str, *, fixed: str = "") -> dict[tuple[str, str], list[Interval]]:
        """The state of a family's dated tasks, by (parameter, unit); `fixed` are the other parameters, "a=1, b=x"."""
        row = self._connection.execute("SELECT number FROM pipelines WHERE name = ?", (storable(pipeline),)).fetchone()
        return {} if row is None else list_partitions(self._connection, row[0], family, fixed=fixed)
