"""`jubako box profile`: the profiles that boxes can have, and what each comes to."""

from __future__ import annotations

import textwrap

import click

from jubako.boxes.profiles import PROFILES, get_profile
from jubako.cli.declare import format_option
from jubako.cli.document import Document
from jubako.cli.formats import echo_document
from jubako.cli.terminal import echo
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.cli.document import Format

__all__ = ["profile"]

_WIDTH = 110


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in PROFILES if name.startswith(incomplete)]


@click.command(epilog="\b\nExamples:\n  jubako box profile\n  jubako box profile strict --explain")
@click.argument("name", default="", metavar="[NAME]", shell_complete=_complete)
@click.option("--explain", is_flag=True, help="Say why, too, and name the system calls.")
@format_option
def profile(name: str, explain: bool, format_: Format) -> None:
    """List the profiles, or say what the profile NAME takes away from what runs in a box of it.

    'jubako box run --profile NAME' is for a box of one.
    """
    if not name:
        if explain:
            raise InputError("--explain is for one profile", hint=f"Name one of {', '.join(PROFILES)}.")
        rows: list[dict[str, Any]] = [{"profile": one.name, "for": one.purpose} for one in PROFILES.values()]
        echo_document(Document(schema="jubako.box.profiles/1", columns=("profile", "for"), rows=rows), format_)
        return
    from jubako.boxes.commands.explain_profile import explain_calls, explain_profile  # 3 modules, for who asks

    found = get_profile(name)
    traits = explain_profile(found)
    if explain:
        traits += explain_calls(found)
    columns = ("about", "holds", "why") if explain else ("about", "holds")
    rows = [{column: getattr(trait, column) for column in columns} for trait in traits]
    facts = {"profile": found.name, "for": found.purpose}
    if format_ != "table":
        document = Document(schema="jubako.box.profile/1", columns=columns, rows=rows, facts=facts, rows_are="traits")
        echo_document(document, format_)
        return
    echo(f"{found.name}: for {found.purpose}\n")
    width = max(len(trait.about) for trait in traits)
    for trait in traits:
        _echo_beside(trait.about.ljust(width), trait.holds)
        if explain:
            _echo_beside(" " * width, f"({trait.why})")


def _echo_beside(first: str, text: str) -> None:
    """Prints `text` to the right of `first`, on as many lines as it takes."""
    for line in textwrap.wrap(text, _WIDTH - len(first) - 2, break_on_hyphens=False):
        echo(f"{first}  {line}")
        first = " " * len(first)
