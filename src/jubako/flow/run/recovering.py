"""Before a run begins: what runs that died have left half published is finished or undone, and said."""

from __future__ import annotations

import sqlite3

from jubako.boxes.state import StateRoot
from jubako.boxes.transactions.journal import Journal
from jubako.boxes.transactions.recovery import Recovered, RecoveryReport, recover
from jubako.boxes.transactions.stage import StageArea
from jubako.flow.ledger.ledger import Ledger
from jubako.records import record

__all__ = ["Recovery", "recover_and_stage"]


@record
class Recovery:
    """What was recovered, in sentences, and the run's own staging area (to be closed) with the journal it owns."""

    sentences: tuple[str, ...]
    area: StageArea
    journal: Journal


def recover_and_stage(connection: sqlite3.Connection, state: StateRoot, run_id: str, ledger: Ledger) -> Recovery:
    """Recovers, settles in the ledger what was recovered, and opens the run's own staging area."""
    journal = Journal(connection)

    def record(connection: sqlite3.Connection, recovered: Recovered, published: bool) -> None:
        ledger.settle_recovered(connection, recovered.run_id, recovered.id, published=published)

    report = recover(journal, state, record=record)
    return Recovery(tuple(_describe(report)), StageArea(state, run_id, journal), journal)


def _describe(report: RecoveryReport) -> list[str]:
    fates = (
        (report.rolled_forward, "it is published now"),
        (report.rolled_back, "it was put back"),
        (report.needs_person, "you have to decide"),
    )
    return [
        f"{each.label}: an earlier run was killed while publishing it; {fate}"
        + (f": {each.words}" if each.words else "")
        for recovered, fate in fates
        for each in recovered
    ]
