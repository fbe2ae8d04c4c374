"""`jubako backfill --list`, `--pause RUN`, `--resume RUN`, `--cancel RUN`: seeing to what runs elsewhere."""

from __future__ import annotations

import click

from jubako.cli.document import Document, Format
from jubako.cli.formats import echo_document
from jubako.cli.moments import format_moment, iso_moment
from jubako.cli.past import complete_run, find_own_state, open_own_history
from jubako.cli.terminal import echo, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.flow.ledger.history import PastRun
    from jubako.flow.ledger.steering import Wish

__all__ = ["control_backfills", "control_options"]

_WISHES: tuple[Wish, ...] = ("pause", "resume", "cancel")
_SAYS: dict[Wish, str] = {
    "pause": "finishes what runs and starts nothing more. 'jubako backfill --resume {run}' lets it go on.",
    "resume": "goes on.",
    "cancel": "is cancelled, as by Ctrl-C. The same command carries on.",
}
_COLUMNS = ("run", "pipeline", "range", "outcome", "done", "failed", "to_run", "mode", "pid", "started")


def control_options(command: Any) -> Any:
    """Give a command `--list` and the options that steer a run, for `control_backfills`."""
    helps = ("Start nothing more in RUN for now.", "Let RUN go on.", "End RUN, as Ctrl-C would.")
    for wish, text in reversed(list(zip(_WISHES, helps, strict=True))):
        option = click.option(f"--{wish}", metavar="RUN", shell_complete=complete_run, help=text)
        command = option(command)
    return click.option("--list", "list_", is_flag=True, help="List the backfills that run.")(command)


def control_backfills(ctx: click.Context, given: dict[str, Any], format_: Format) -> bool:
    """Does what those options ask for, and takes them out of `given`; False if they ask for nothing."""
    listing = given.pop("list_")
    steered: dict[Wish, str] = {wish: text for wish in _WISHES if (text := given.pop(wish)) is not None}
    if not listing and not steered:
        return False
    if len(steered) + listing > 1 or ctx.params["pipeline"] is not None:
        raise click.UsageError("--list, --pause, --resume and --cancel stand alone.", ctx)
    for wish, text in steered.items():
        from jubako.flow.ledger.steering import steer_run

        run = steer_run(find_own_state(), text, wish)
        echo(f"Run {run.run_id} ({printable(run.asked)}) {_SAYS[wish].format(run=run.run_id)}")
    if listing:
        _echo_backfills(format_)
    return True


def _echo_backfills(format_: Format) -> None:
    with open_own_history() as past:
        found = [(run, past.count_outcomes(run.run_id)) for run in past.list_living("backfill")]
    rows = [_row(run, outcomes, format_) for run, outcomes in found]
    if format_ == "table":
        echo_document(Document("", ("started", "outcome", "done", "failed", "to_run", "run", "range"), rows), format_)
        if not rows:
            echo("No backfill is running.", err=True)
    else:
        echo_document(Document("jubako.backfills/1", _COLUMNS, rows, {}, "backfills"), format_)


def _row(run: PastRun, outcomes: dict[str, int], format_: Format) -> dict[str, object]:
    return {
        "run": run.run_id,
        "pipeline": run.pipeline,
        "range": run.asked,
        "outcome": run.outcome,
        "done": outcomes.get("published", 0),
        "failed": outcomes.get("failed", 0) + outcomes.get("timeout", 0),
        "to_run": run.to_run,
        "mode": run.mode,
        "pid": run.pid,
        "started": format_moment(run.started_s) if format_ == "table" else iso_moment(run.started_s),
    }
