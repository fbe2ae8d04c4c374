"""Publishes what finished in boxes: everything that is ready, in one batch, never waiting for more.

Each attempt is a transaction with the signatures taken when it started. In the database transaction that makes the
journal valid its lease is asked for once more and it is recorded as "publishing"; in the one that closes the journal
it is settled and its lease given back. So a crash in between leaves a row that recovery settles.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from jubako.boxes.transactions.publish import Move, Outcome, Publisher, Transaction
from jubako.boxes.transactions.signature import Signature
from jubako.errors import ConflictError
from jubako.flow.attempts import Attempt
from jubako.flow.ledger.ledger import AttemptRecord, LedgerRun
from jubako.records import record

__all__ = ["Ready", "publish_batch", "refuse_lost"]


@record
class Ready:
    """An attempt that ended well. `owed` is the payload of its after_publish() call, None if it has none."""

    attempt: Attempt
    record: AttemptRecord  # with the outcome "publishing"
    moves: tuple[Move, ...]
    inputs: tuple[tuple[str, Signature | None], ...] = ()
    owed: bytes | None = None


def publish_batch(publisher: Publisher, run: LedgerRun, batch: Sequence[Ready], now_s: float) -> list[Outcome]:
    """Publishes each of `batch` or nothing of it; outcomes in the same order."""
    by_id = {ready.attempt.id: ready for ready in batch}
    recorded: set[str] = set()

    def guard(connection: sqlite3.Connection, transaction: Transaction) -> None:
        ready = by_id[transaction.id]
        refuse_lost(run, ready.record)
        run.record([ready.record])
        recorded.add(transaction.id)
        if ready.owed is not None:
            run.owe(ready.record, ready.owed, now_s)

    def record(connection: sqlite3.Connection, transaction: Transaction, outcome: Outcome) -> None:
        ready = by_id[transaction.id]
        if transaction.id not in recorded:  # refused before the journal was valid
            run.record([ready.record])
        if isinstance(outcome, ConflictError):
            run.settle(ready.attempt.id, "conflict", outcome.message)
        elif isinstance(outcome, Exception):
            run.settle(ready.attempt.id, "failed", outcome.message)
        else:
            run.settle(ready.attempt.id, "published")
        run.leases.release_within([ready.record.task_id])

    transactions = [Transaction(each.attempt.id, each.record.label, each.moves, each.inputs) for each in batch]
    return publisher.publish(transactions, guard=guard, record=record)


def refuse_lost(run: LedgerRun, record: AttemptRecord) -> None:
    """ConflictError if this run does not hold the task any more."""
    if run.leases.find_lost([record.task_id]):
        raise ConflictError(
            f"{record.label} was taken over by another run while this one was stopped",
            hint="nothing of it was published here; the other run does it",
        )
