"""`jubako doctor`: what this host can do, what that means, and the cure for what it cannot."""

from __future__ import annotations

import click

from jubako.cli.declare import format_option
from jubako.cli.doctor_report import report_host
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.cli.document import Format

__all__ = ["doctor"]

_EPILOG = """\b
Examples:
  jubako doctor
  jubako doctor --json | jq '.abilities[] | select(.here == "no")'

Exit codes: 0 boxes work on this host, 3 they don't (in a box: none can be made there)."""


@click.command(epilog=_EPILOG)
@format_option
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def doctor(format_: Format, as_json: bool) -> int:
    """Try what boxes and publishing need on this host, and say what is missing and how to get it.

    Everything is tried for real and leaves nothing behind. In a container, it says what that takes away.
    """
    if as_json and format_ not in ("table", "json"):
        raise InputError(f"--json and --format {format_} contradict each other")
    return report_host("json" if as_json else format_)
