"""What `jubako box create`, and `run --detach`, take and do. Needs no click."""

from __future__ import annotations

from jubako.cli.box_options import BOX_OPTIONS, NAME_OPTION, box_of
from jubako.cli.box_report import echo_notes
from jubako.cli.line import Option
from jubako.cli.terminal import echo, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["CREATE_OPTIONS", "create_command"]

CREATE_OPTIONS = (
    NAME_OPTION,
    Option(
        ("--from",),
        "origins",
        "Begin with what a box holds, or with a directory over /; may be repeated.",
        takes="values",
        default=(),
        metavar="BOX|DIR",
    ),
    *BOX_OPTIONS,
)


def create_command(command: Sequence[str], *, name: str, origins: Sequence[str] = (), **box_options: Any) -> int:
    """Makes a living box, starts it and prints its name; the exit code."""
    from jubako.boxes.living.keeper import CommandNotStarted  # what `--help` can do without
    from jubako.boxes.living.living_box import create_box

    words = command[1:] if tuple(command[:1]) == ("--",) else command
    try:
        box = create_box(words, box_of(**box_options), name=name, origins=origins)
    except CommandNotStarted as error:
        echo(f"Error: {printable(error.message)}", err=True)
        return error.exit_status
    echo_notes(box.notes)
    echo(box.name)
    return 0
