"""`jubako box cp`: which of the two is in a box, and in which."""

from __future__ import annotations

import os
import sys

from jubako.boxes.living.living_box import find_box
from jubako.cli.terminal import echo, printable
from jubako.errors import InputError

__all__ = ["copy"]


def copy(source: str, destination: str) -> None:
    """Copies into a box or out of one, and says what was left out."""
    box_of_source, source_path = _split(source)
    box_of_destination, destination_path = _split(destination)
    if bool(box_of_source) == bool(box_of_destination):
        both = "both are in boxes" if box_of_source else "neither is in a box"
        raise InputError(
            f"{both}: {source} and {destination}",
            hint="What is in a box is written BOX:PATH; write ./NAME for a file here that has a ':' in its name.",
        )
    if destination == "-" and os.isatty(1):
        raise InputError("an archive is nothing for a terminal", hint="Send it on: ... | tar -t, or > FILE.")
    if box_of_source:
        to = sys.stdout.buffer if destination == "-" else destination_path
        refused = find_box(box_of_source).copy_out(source_path, to)
    else:
        taken = sys.stdin.buffer if source == "-" else source_path
        refused = find_box(box_of_destination).copy_in(taken, destination_path)
    for line in refused:
        echo(f"warning: {printable(line)}", err=True)


def _split(word: str) -> tuple[str, str]:
    """The box and the path in it of BOX:PATH; "" and the word for a path on this machine."""
    name, colon, path = word.partition(":")
    if not colon or "/" in name or not name:
        return "", word
    return name, path
