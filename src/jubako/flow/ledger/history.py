"""Reading the ledger: runs, attempts, the state of dated tasks. Nothing here changes anything.

A row says what happened, not what is there: an output that was removed since is still "published" here. What an open
row means (does that run live, or was it killed?) is asked of the run's lock.
"""

from __future__ import annotations

import difflib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from jubako.boxes.run_lock import is_run_locked
from jubako.boxes.state import StateRoot
from jubako.boxes.transactions.database_view import view_database
from jubako.errors import InputError
from jubako.flow.clock import SystemClock
from jubako.flow.engine.disabling import Ending, read_endings
from jubako.flow.fingerprints.fingerprint_book import Made, find_digest, has_fingerprints, read_fingerprints
from jubako.flow.ledger.lease import is_expired
from jubako.flow.ledger.ledger import FAILURES, storable
from jubako.flow.ledger.partitions import Interval, list_partitions
from jubako.flow.ledger.schema import MIGRATIONS
from jubako.flow.loader import find_pipeline_file

__all__ = ["History", "PastAttempt", "PastRun", "open_history", "suggest"]

_OUTCOMES: Final = {
    "SUCCESS": "ok",
    "SUCCESS_WITH_RETRY": "ok",
    "INTERRUPTED": "interrupted",
    "REFUSED": "refused",
    "INCOMPLETE": "incomplete",
    "MISSING_EXT": "incomplete",
    "NOT_RUN": "incomplete",
}
_RUN: Final = (
    "SELECT run_id, name, asked, kind, mode, pid, boot_id, expires_s, started_s, ended_s, status, counts, wish, to_run"
    " FROM runs JOIN pipelines ON pipelines.number = runs.pipeline"
)
_ATTEMPT: Final = (
    "SELECT run_id, mode, attempt_id, task_id, label, outcome, error, attempts.started_s, wall_s, cpu_s, peak_bytes,"
    " undeclared FROM attempts JOIN runs ON runs.number = attempts.run"
    " JOIN pipelines ON pipelines.number = attempts.pipeline"
)


class PastRun(NamedTuple):
    """A run as history. `ended_s` None: it is running, or was killed."""

    run_id: str
    pipeline: str
    asked: str
    kind: str  # run, backfill, verify
    mode: str  # how its tasks really ran: host, none
    pid: int
    started_s: float
    ended_s: float | None
    status: str
    counts: Mapping[str, int]
    wish: str  # what somebody wants of it: pause, cancel, or nothing
    to_run: int | None  # how many tasks it planned to run, where it is a backfill
    is_living: bool

    @property
    def outcome(self) -> str:
        """In a word: ok, incomplete, failed, refused (before anything ran), interrupted, running, paused, killed."""
        if self.ended_s is None:
            return "killed" if not self.is_living else "paused" if self.wish == "pause" else "running"
        return _OUTCOMES.get(self.status, "failed")

    @property
    def has_failed(self) -> bool:
        """True unless all that was asked for is there, or may yet be, or somebody wanted it to end."""
        return self.outcome not in ("ok", "running", "paused", "interrupted")


class PastAttempt(NamedTuple):
    """An attempt as history."""

    run_id: str
    mode: str  # of its run
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
    """The history in one database. `is_locked(run_id)` tells whether somebody holds that run's lock."""

    def __init__(self, connection: sqlite3.Connection, is_locked: Callable[[str], bool] = lambda run_id: False) -> None:
        self._connection = connection
        self._is_locked = is_locked

    # what tasks were made of

    def list_made(self, pipeline: str, task_ids: Iterable[str]) -> dict[str, Made]:
        """What is recorded of these tasks: what they were made of when they were last published."""
        row = self._connection.execute("SELECT number FROM pipelines WHERE name = ?", (storable(pipeline),)).fetchone()
        if row is None or not has_fingerprints(self._connection):
            return {}
        return read_fingerprints(self._connection, row[0], task_ids)

    def find_digest(self, path: str) -> tuple[str, str] | None:
        """What is remembered of the content at `path`: a signature, and the digest that goes with it."""
        return find_digest(self._connection, path) if has_fingerprints(self._connection) else None

    # runs

    def list_runs(self, pipeline: str | None = None, *, failed: bool = False, limit: int = 50) -> list[PastRun]:
        """The newest runs first, of one pipeline or of all; with `failed` only those that have."""
        rows = self._connection.execute(
            f"{_RUN} WHERE ?1 IS NULL OR name = ?1 ORDER BY runs.number DESC",
            (None if pipeline is None else storable(pipeline),),
        )
        found: list[PastRun] = []
        for row in rows:
            if len(found) == limit:
                break
            run = self._make_run(row)
            if run.has_failed or not failed:
                found.append(run)
        return found

    def count_runs(self, pipeline: str | None = None) -> int:
        """How many runs are remembered, of one pipeline or of all."""
        (count,) = self._connection.execute(
            "SELECT count(*) FROM runs JOIN pipelines ON pipelines.number = pipeline WHERE ?1 IS NULL OR name = ?1",
            (None if pipeline is None else storable(pipeline),),
        ).fetchone()
        return int(count)

    def find_run(self, text: str) -> PastRun | None:
        """The run whose id starts with `text`, or ends with "-" and `text`; InputError if there are several."""
        matching = [
            run_id
            for run_id in self.list_run_ids()
            if run_id == text or (text and (run_id.startswith(text) or run_id.endswith(f"-{text}")))
        ]
        if text in matching:
            matching = [text]
        if len(matching) > 1:
            raise InputError(
                f"{len(matching)} runs have an id that starts with {text}",
                hint=f"say more of it: {', '.join(matching[:3])}{', ...' if len(matching) > 3 else ''}",
            )
        return self._get_run(matching[0]) if matching else None

    def get_run(self, text: str) -> PastRun:
        """As `find_run`; InputError, with suggestions, if there is none."""
        run = self.find_run(text)
        if run is not None:
            return run
        known = self.list_run_ids()
        close = difflib.get_close_matches(text, known, n=3, cutoff=0.8) or known[:3]
        hint = f"there are {', '.join(close)}; 'jubako history' lists them" if close else "nothing has been run yet"
        raise InputError(f"there is no run {text}", hint=hint)

    def list_run_ids(self) -> list[str]:
        """The ids of all runs that are remembered, the newest first."""
        return [run_id for (run_id,) in self._connection.execute("SELECT run_id FROM runs ORDER BY number DESC")]

    def list_living(self, kind: str) -> list[PastRun]:
        """The runs of a kind that live, the newest first."""
        rows = self._connection.execute(
            f"{_RUN} WHERE kind = ? AND ended_s IS NULL ORDER BY runs.number DESC", (kind,)
        ).fetchall()
        return [run for run in map(self._make_run, rows) if run.is_living]

    def count_outcomes(self, run_id: str) -> dict[str, int]:
        """How many attempts of a run have come to what, so far; those that a batch stood for, and not the batch."""
        rows = self._connection.execute(
            "WITH own AS (SELECT attempts.* FROM attempts JOIN runs ON runs.number = run WHERE run_id = ?)"
            " SELECT outcome, count(*) FROM own WHERE number NOT IN"
            " (SELECT min(number) FROM own GROUP BY attempt_id HAVING count(*) > 1) GROUP BY outcome",
            (run_id,),
        )
        return dict(rows.fetchall())

    def count_undeclared(self) -> dict[str, int]:
        """How many paths the tasks of each run wrote and had not declared; by id, runs without any left out."""
        rows = self._connection.execute(
            "SELECT run_id, sum(json_array_length(undeclared)) FROM attempts JOIN runs ON runs.number = run"
            " WHERE undeclared != '[]' GROUP BY run"
        )
        return dict(rows.fetchall())

    # attempts

    def list_attempts(
        self,
        pipeline: str | None = None,
        task: str | None = None,
        *,
        run_id: str | None = None,
        failed: bool = False,
        limit: int = 50,
    ) -> list[PastAttempt]:
        """The newest attempts first: of a pipeline, of a run, at tasks with that id, label or family."""
        rows = self._connection.execute(
            f"{_ATTEMPT} WHERE (?1 IS NULL OR name = ?1) AND (?2 IS NULL OR run_id = ?2)"
            " AND (?3 IS NULL OR task_id = ?3 OR label = ?3 OR (label > ?3 || '(' AND label < ?3 || ')'))"
            f" AND (NOT ?4 OR outcome IN {FAILURES})"
            " ORDER BY attempts.number DESC LIMIT ?5",
            (None if pipeline is None else storable(pipeline), run_id, task, failed, limit),
        )
        return [PastAttempt(*(*row[:-1], json.loads(row[-1]))) for row in rows]

    def find_last_failures(self, pipeline: str, task_ids: Iterable[str]) -> dict[str, PastAttempt]:
        """The newest attempt at each of the tasks, where that failed, by task id."""
        left, found = set(task_ids), {}
        rows = self._connection.execute(
            f"{_ATTEMPT} WHERE name = ? AND outcome NOT IN ('cancelled', 'yielded', 'publishing')"
            " ORDER BY attempts.number DESC",
            (storable(pipeline),),
        )
        for row in rows:
            if not left:
                break
            task_id, outcome = row[3], row[5]
            if task_id in left:
                left.remove(task_id)
                if outcome in FAILURES:
                    found[task_id] = PastAttempt(*(*row[:-1], json.loads(row[-1])))
        return found

    def last_outcomes(self, pipeline: str, family: str) -> dict[str, str]:
        """How the newest attempt at each task of a family ended, by task id."""
        rows = self._connection.execute(
            "SELECT task_id, outcome FROM attempts JOIN pipelines ON pipelines.number = attempts.pipeline"
            " WHERE name = ?1 AND label > ?2 || '(' AND label < ?2 || ')' ORDER BY attempts.number",  # ")" follows "("
            (storable(pipeline), family),
        )
        return dict(rows.fetchall())

    def list_last_outcomes(self, prefix: str = "") -> list[tuple[str, str]]:
        """Ids of tasks that begin with `prefix`, each with how its last attempt ended; the last attempted first."""
        return self._connection.execute(
            "SELECT task_id, outcome FROM attempts WHERE number IN (SELECT max(number) FROM attempts"
            " WHERE substr(task_id, 1, length(?1)) = ?1 GROUP BY pipeline, task_id) ORDER BY number DESC",
            (storable(prefix),),
        ).fetchall()

    # what tasks stand at

    def list_intervals(self, pipeline: str, family: str, *, fixed: str = "") -> dict[tuple[str, str], list[Interval]]:
        """The state of a family's dated tasks, by (parameter, unit); `fixed` are the other parameters, "a=1, b=x"."""
        number = self._find_number(pipeline)
        return {} if number is None else list_partitions(self._connection, number, family, fixed=fixed)

    def list_endings(self, pipeline: str) -> dict[str, list[Ending]]:
        """How attempts at tasks have ended, oldest first, for each task that ever failed, by its id."""
        number = self._find_number(pipeline)
        return {} if number is None else read_endings(self._connection, number)

    def list_held(self, pipeline: str) -> dict[str, PastRun]:
        """Tasks that a living run works on, or is about to, by task id."""
        rows = self._connection.execute(
            "SELECT task_id, run_id FROM leases JOIN runs ON runs.number = leases.run"
            " JOIN pipelines ON pipelines.number = leases.pipeline WHERE name = ?",
            (storable(pipeline),),
        ).fetchall()
        runs = {run_id: self._get_run(run_id) for run_id in {run_id for _, run_id in rows}}
        return {task_id: runs[run_id] for task_id, run_id in rows if runs[run_id].is_living}

    def list_owed(self, pipeline: str) -> dict[str, str]:
        """Tasks that are published and whose after_publish() has not succeeded yet, with its last error, by id."""
        rows = self._connection.execute(
            "SELECT task_id, error FROM pending JOIN pipelines ON pipelines.number = pending.pipeline"
            " WHERE name = ? AND is_due",
            (storable(pipeline),),
        )
        return dict(rows.fetchall())

    # names

    def list_pipelines(self) -> list[str]:
        """The names of all pipelines that were ever run."""
        return [name for (name,) in self._connection.execute("SELECT name FROM pipelines ORDER BY name")]

    def find_pipeline(self, text: str) -> str | None:
        """The name history knows the pipeline `text` by; None if it was never run. It need not be there any more."""
        known = self.list_pipelines()
        try:
            file = find_pipeline_file(text)
        except InputError:
            file = os.path.realpath(os.path.expanduser(text))
        return next((name for name in (file, text) if storable(name) in known), None)

    def list_families(self, pipeline: str | None = None) -> list[str]:
        """The families of all tasks that were tried, of one pipeline or of all."""
        rows = self._connection.execute(
            "SELECT DISTINCT substr(label, 1, instr(label, '(') - 1) FROM attempts"
            " JOIN pipelines ON pipelines.number = pipeline WHERE ?1 IS NULL OR name = ?1 ORDER BY 1",
            (None if pipeline is None else storable(pipeline),),
        )
        return [family for (family,) in rows]

    def _find_number(self, pipeline: str) -> int | None:
        row = self._connection.execute("SELECT number FROM pipelines WHERE name = ?", (storable(pipeline),)).fetchone()
        return None if row is None else int(row[0])

    def _get_run(self, run_id: str) -> PastRun:
        return self._make_run(self._connection.execute(f"{_RUN} WHERE run_id = ?", (run_id,)).fetchone())

    def _make_run(self, row: Sequence[Any]) -> PastRun:
        run_id, pipeline, asked, kind, mode, pid, boot_id, expires_s = row[:8]
        started_s, ended_s, status, counts, wish, to_run = row[8:]
        return PastRun(
            run_id=run_id,
            pipeline=pipeline,
            asked=asked,
            kind=kind,
            mode=mode,
            pid=pid,
            started_s=started_s,
            ended_s=ended_s,
            status=status,
            counts=json.loads(counts),
            wish=wish,
            to_run=to_run,
            is_living=ended_s is None and self._is_living(run_id, boot_id, expires_s),
        )

    def _is_living(self, run_id: str, boot_id: str, expires_s: float | None) -> bool:
        try:
            return self._is_locked(run_id)
        except PermissionError:  # another user's: its heartbeat tells, a few minutes late
            return not is_expired(boot_id, expires_s, SystemClock().moment())


def suggest(text: str, known: Iterable[str]) -> str:
    """A hint that names what is nearest to `text`; "" if nothing is."""
    close = difflib.get_close_matches(text, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else ""


@contextmanager
def open_history(path: str) -> Iterator[History]:
    """The history below the state root `path`, for looking only; an empty one where nothing was ever run.

    Works beside runs that write, and for who may only read there.
    """
    state = StateRoot(os.path.realpath(path))
    with view_database(state.ledger_path, "ledger", MIGRATIONS) as connection:
        yield History(connection, lambda run_id: is_run_locked(state, run_id))
