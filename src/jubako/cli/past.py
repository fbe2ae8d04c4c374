"""What the commands that look at the past share: the history of this user's state root, and completion from it."""

from __future__ import annotations

import os

from jubako.cli.terminal import printable
from jubako.errors import JubakoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import click
    from click.shell_completion import CompletionItem

    from jubako.flow.ledger.history import History

__all__ = ["complete_run", "complete_subject", "complete_tried_task", "find_own_state", "open_own_history"]


def find_own_state() -> str:
    """The path of the state root that this user's runs use."""
    from jubako.boxes.state import find_state_root

    return find_state_root(os.environ, os.path.expanduser("~"))


def open_own_history() -> AbstractContextManager[History]:
    """The history in there; nothing is made or changed."""
    from jubako.flow.ledger.history import open_history

    return open_history(find_own_state())


def complete_run(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The ids of runs, each with what it was asked for."""
    from click.shell_completion import CompletionItem

    try:
        with open_own_history() as past:
            runs = [run for run in past.list_runs(limit=1000) if run.run_id.startswith(incomplete)]
    except JubakoError:  # a shell that completes a word wants no errors
        return []
    return [CompletionItem(run.run_id, help=printable(f"{run.outcome}: {run.asked}")) for run in runs]


def complete_tried_task(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The families of tasks that were tried: by the pipeline or the run in front of the word."""
    from click.shell_completion import CompletionItem

    subject = ctx.params.get("subject") or ctx.params.get("run_id") or ""
    try:
        with open_own_history() as past:
            run = None if past.find_pipeline(subject) else past.find_run(subject)
            families = past.list_families(run.pipeline if run is not None else past.find_pipeline(subject))
    except JubakoError:
        return []
    return [CompletionItem(family) for family in families if family.startswith(incomplete)]


def complete_subject(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Pipelines (as files) and runs."""
    from click.shell_completion import CompletionItem

    return [*complete_run(ctx, param, incomplete), CompletionItem(incomplete, type="file")]
