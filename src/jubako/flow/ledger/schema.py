"""Tables of the ledger, in the state root's one database (the publishing journal keeps its own tables beside them).

`MIGRATIONS[n]` brings version n to n + 1; `boxes.transactions.database.ensure_schema` applies them.

    pipelines    a number per pipeline, so that rows stay small
    runs         one row per run; `expires_s` is CLOCK_MONOTONIC of `boot_id`, null: only its lock says if it lives;
                 `log_bytes` is the size of its logs, null: nobody has looked since it ended; `kind` is run,
                 backfill or verify; `wish` what others want of it: pause, cancel or nothing; `to_run` how many tasks
                 a backfill planned to run
    attempts     one row per attempt, the newest `KEEP_ATTEMPTS` of them; outcome "publishing" from the commit that
                 makes the journal valid to the one that closes it (or that recovery closes it with). No index: one
                 would cost every task more than the row itself, and reading through all of them takes 30 ms
    partitions   the state of dated tasks as intervals: [first, after) of `unit` counted from 1970, one status each
    leases       who may run a task: unique per pipeline and task; `token` never repeats
    shares       what running tasks take of resources that the runs on this machine share
    pending      after_publish() calls still owed; `is_due` once the outputs are published
    sequence     the last token given out

Nothing here is needed to know whether a task is done: that is asked of its outputs. A lost ledger loses history,
leases of runs that are over, and after_publish() calls that were still owed.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MIGRATIONS"]

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE pipelines (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        """CREATE TABLE runs (
            number INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, pipeline INTEGER NOT NULL,
            asked TEXT NOT NULL, mode TEXT NOT NULL, pid INTEGER NOT NULL, boot_id TEXT NOT NULL, expires_s REAL,
            started_s REAL NOT NULL, ended_s REAL, status TEXT NOT NULL DEFAULT '',
            counts TEXT NOT NULL DEFAULT '{}')""",
        """CREATE TABLE attempts (
            number INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, pipeline INTEGER NOT NULL,
            attempt_id TEXT NOT NULL, task_id TEXT NOT NULL, label TEXT NOT NULL, outcome TEXT NOT NULL,
            error TEXT NOT NULL, started_s REAL NOT NULL, wall_s REAL NOT NULL, cpu_s REAL NOT NULL,
            peak_bytes INTEGER NOT NULL, undeclared TEXT NOT NULL, partition TEXT NOT NULL)""",
        """CREATE TABLE partitions (
            pipeline INTEGER NOT NULL, family TEXT NOT NULL, fixed TEXT NOT NULL, parameter TEXT NOT NULL,
            unit TEXT NOT NULL, first INTEGER NOT NULL, after INTEGER NOT NULL, status TEXT NOT NULL,
            PRIMARY KEY (pipeline, family, fixed, parameter, unit, first)) WITHOUT ROWID""",
        """CREATE TABLE leases (
            pipeline INTEGER NOT NULL, task_id TEXT NOT NULL, run INTEGER NOT NULL, token INTEGER NOT NULL,
            PRIMARY KEY (pipeline, task_id)) WITHOUT ROWID""",
        """CREATE TABLE pending (
            number INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, pipeline INTEGER NOT NULL,
            attempt_id TEXT NOT NULL, task_id TEXT NOT NULL, label TEXT NOT NULL, payload BLOB NOT NULL,
            is_due INTEGER NOT NULL, created_s REAL NOT NULL, tries INTEGER NOT NULL DEFAULT 0,
            error TEXT NOT NULL DEFAULT '')""",
        "CREATE INDEX pending_of_run ON pending (run, attempt_id)",
        "CREATE TABLE sequence (token INTEGER NOT NULL)",
        "INSERT INTO sequence VALUES (0)",
    ),
    ("ALTER TABLE runs ADD COLUMN log_bytes INTEGER",),
    (
        "ALTER TABLE runs ADD kind TEXT NOT NULL DEFAULT 'run'",
        "ALTER TABLE runs ADD wish TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE runs ADD to_run INTEGER",
    ),
    (
        """CREATE TABLE shares (
            resource TEXT NOT NULL, run INTEGER NOT NULL, task_id TEXT NOT NULL, amount INTEGER NOT NULL,
            PRIMARY KEY (resource, run, task_id)) WITHOUT ROWID""",
    ),
)
