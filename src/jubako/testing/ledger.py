"""A ledger that lives in memory: all of SQL, none of the disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jubako.flow.ledger.ledger import Ledger, LedgerRun
from jubako.testing.clock import FakeClock

__all__ = ["begin_fake_run", "open_memory_ledger"]


@contextmanager
def open_memory_ledger() -> Iterator[Ledger]:
    """An empty ledger, gone with the block."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        yield Ledger(connection)
    finally:
        connection.close()


def begin_fake_run(
    ledger: Ledger,
    run_id: str = "run-1",
    pipeline: str = "pipeline.py",
    *,
    clock: FakeClock | None = None,
    is_locked: Callable[[str], bool] = lambda run_id: True,
) -> LedgerRun:
    """A run of `pipeline` that has just begun; all other runs live unless `is_locked` says otherwise."""
    clock = clock or FakeClock()
    return ledger.begin_run(
        run_id,
        pipeline,
        asked="a test",
        mode="none",
        pid=1,
        now=clock.moment(),
        now_s=clock.wall_s(),
        beats=True,
        is_locked=is_locked,
    )
