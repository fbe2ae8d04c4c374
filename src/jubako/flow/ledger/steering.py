"""Pausing, resuming and cancelling a run from outside: a wish in the ledger, which the run looks at every second.

The run finishes what it has begun: paused, it starts nothing more and gives back leases it does not use, so that other
runs may have those tasks; cancelled, it ends as after Ctrl-C. A task in the run's own process is finished first.
"""

from __future__ import annotations

from contextlib import closing
from typing import Final, Literal

from jubako.boxes.state import StateRoot
from jubako.boxes.transactions.database import open_database
from jubako.errors import InputError
from jubako.flow.ledger.history import PastRun, open_history
from jubako.flow.ledger.ledger import Ledger

__all__ = ["Wish", "steer_run"]

Wish = Literal["pause", "resume", "cancel"]
_WORDS: Final = {"pause": "pause", "resume": "", "cancel": "cancel"}


def steer_run(path: str, text: str, wish: Wish) -> PastRun:
    """Tells the living run that `text` names what is wanted of it; the run, as it was before.

    `path` is that of the state root. InputError for a run that is unknown, has ended or is being cancelled.
    """
    with open_history(path) as history:
        run = history.get_run(text)
    if run.is_living and run.wish == "cancel" and wish != "cancel":
        raise InputError(f"run {run.run_id} is being cancelled", hint="the same command, given again, carries on")
    if run.is_living:
        with closing(open_database(StateRoot(path).ledger_path, durability="relaxed")) as connection:
            if Ledger(connection).wish(run.run_id, _WORDS[wish]):
                return run
    raise InputError(f"run {run.run_id} is over, it does not run any more", hint="the same command carries on")
