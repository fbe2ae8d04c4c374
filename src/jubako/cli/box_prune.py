"""`jubako box prune`: removes the boxes that nobody runs any more, having said which."""

from __future__ import annotations

import click

from jubako.boxes.commands.kept_boxes import kept_boxes, remove_boxes
from jubako.boxes.living.find import list_living
from jubako.boxes.living.life import remove_living
from jubako.boxes.living.overview import measure_living
from jubako.boxes.state import default_state_root
from jubako.cli.box_report import echo_notes, format_size
from jubako.cli.terminal import echo, printable
from jubako.errors import ConflictError, InputError

__all__ = ["prune_boxes"]


def prune_boxes(*, all_: bool, yes: bool) -> int:
    """Removes the living boxes that don't run, and with `all_` the kept ones; the exit code."""
    state = default_state_root()
    found, unreadable = list_living(state)
    echo_notes(unreadable)
    living = [one for one in found if not one.is_running]
    kept = kept_boxes(state).records if all_ else ()
    if not living and not kept:
        echo("There is nothing to remove.", err=True)
        return 0
    for one in living:
        command = f" ({one.record.label})" if one.record.label else ""
        echo(f"{one.name}: {one.phase}, {format_size(measure_living(one))}{printable(command)}", err=True)
    for record in kept:
        echo(f"{record.id}: kept {record.created[:16].replace('T', ' ')}, {printable(record.label)}", err=True)
    if not yes and not click.confirm("Remove them, and what they hold?", err=True):
        return 1
    for one in living:
        try:
            remove_living(one, state)
        except (ConflictError, InputError) as error:  # somebody has started or removed it meanwhile
            echo(f"note: {error.message}", err=True)
            continue
        echo(one.name)
    for removed in remove_boxes([record.id for record in kept], state):
        echo(removed)
    return 0
