"""What tests of leases and shares share: runs of one ledger on disk, each with its own connection, as in processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jubako.boxes.transactions.database import open_database
from jubako.flow.clock import Moment
from jubako.flow.ledger.ledger import Ledger, LedgerRun

NOW = Moment("boot-1", 1000.0)
Begin = Callable[..., LedgerRun]


@pytest.fixture
def locked() -> set[str]:
    """Ids of the runs whose lock is held."""
    return set()


@pytest.fixture
def begin(tmp_path: Path, locked: set[str]) -> Iterator[Begin]:
    connections: list[sqlite3.Connection] = []

    def begin_run(run_id: str, pipeline: str = "p", *, now: Moment = NOW, beats: bool = True) -> LedgerRun:
        locked.add(run_id)
        connection = open_database(str(tmp_path / "ledger.sqlite"), durability="full")
        connections.append(connection)
        return Ledger(connection).begin_run(
            run_id, pipeline, asked="T()", mode="none", pid=7, now=now, now_s=0.0, beats=beats,
            is_locked=locked.__contains__,
        )  # fmt: skip

    yield begin_run
    for connection in connections:
        connection.close()
