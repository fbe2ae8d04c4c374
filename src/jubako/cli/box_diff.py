"""`jubako box diff`: how text files of a box differ from this machine's, as a unified diff that patch(1) takes."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext

from jubako.boxes.commands.box_files import BoxFiles
from jubako.boxes.commands.result import resolve_path
from jubako.boxes.commands.text_diff import diff_text
from jubako.boxes.living.contents import hold_contents, read_living_changes
from jubako.boxes.living.find import find_living
from jubako.boxes.state import default_state_root
from jubako.boxes.views.facts import is_below
from jubako.cli.terminal import echo, echo_bytes, printable, style
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["print_diff"]

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def print_diff(name: str, paths: Sequence[str]) -> int:
    """Prints the diff of what changed at and below `paths`, or of everything: 1 if there is one, as diff(1) says it."""
    state = default_state_root()
    living = find_living(state, name)
    with hold_contents(living) if living is not None else nullcontext():
        if living is not None:
            directory, record, changes = living.directory, living.record, read_living_changes(living)
        else:
            from jubako.boxes.commands.kept_boxes import read_kept_changes

            record, changes = read_kept_changes(name, state)
            directory = os.path.join(state.boxes_path, record.id)
        chosen = [resolve_path(path, os.getcwd()) for path in paths] or ["/"]
        for path in chosen:
            if path != "/" and not any(is_below(change.path, path) for change in changes):
                raise InputError(
                    f"box {name} changed nothing at or below {path}",
                    hint=f"'jubako box changes {name}' lists what it changed.",
                )
        files = BoxFiles(directory, record)
        differs = False
        for change in changes:
            if not any(is_below(change.path, path) for path in chosen):
                continue
            diff = diff_text(files, change)
            if diff is None:
                continue
            differs = True
            if diff.why_not:
                echo(f"{printable(change.path)}: {diff.why_not}, no diff", err=True)
            for line in diff.lines:
                _print_line(line)
    return int(differs)


def _print_line(line: str) -> None:
    """As it is for programs; for people what a terminal could obey is written as an escape."""
    if not sys.stdout.isatty():
        echo_bytes(os.fsencode(line) + b"\n")
        return
    shown = printable(line.replace("\t", "    "))
    colour = _COLOURS.get(line[:1])
    echo(style(shown, colour, bold=line.startswith(("+++", "---"))) if colour else shown)
