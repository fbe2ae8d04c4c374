"""`grep`: tasks by the beginning of their id or by their status, from the ledger.

Luigi's asks a scheduler server, which forgets; the ledger has every attempt. Options and lines are Luigi's, without the
dependencies, which no ledger knows.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Final

from jubako.boxes.state import find_state_root, open_state_root
from jubako.boxes.transactions.database import open_database
from jubako.flow.ledger.history import History

__all__ = ["main"]

_STATUSES: Final[Mapping[str, str]] = {
    "published": "DONE",
    "publishing": "RUNNING",
    "yielded": "PENDING",
    "cancelled": "PENDING",
}


def main(argv: Sequence[str]) -> None:
    """Prints a line for each task that was asked for, the last attempted first."""
    parser = argparse.ArgumentParser(prog="jubako luigi grep", description="Tasks in the ledger, and their status.")
    for name in ("--scheduler-host", "--scheduler-port"):
        parser.add_argument(name, help=argparse.SUPPRESS)  # of the server that is not asked
    parser.add_argument("--prefix", help="what ids of tasks begin with")
    parser.add_argument("--status", help="DONE, FAILED, RUNNING or PENDING")
    asked = parser.parse_args(argv)
    if asked.prefix is None and asked.status is None:
        parser.error("one of --prefix and --status is needed")
    state = open_state_root(find_state_root(os.environ, os.path.expanduser("~")))
    with closing(open_database(state.ledger_path, durability="relaxed")) as connection:
        for task_id, outcome in History(connection).list_last_outcomes(asked.prefix or ""):
            status = _STATUSES.get(outcome, "FAILED")
            if asked.status is None or status == asked.status.upper():
                sys.stdout.write(f"{task_id}: {status}\n")
