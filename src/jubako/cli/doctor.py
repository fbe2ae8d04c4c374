"""`jubako doctor`: what this host can do, what that means, and the cure for what it cannot."""

from __future__ import annotations

import click

from jubako.cli.declare import format_option
from jubako.cli.doctor_report import report_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.cli.document import Format

__all__ = ["doctor"]

_EPILOG = """\b
Examples:
  jubako doctor
  jubako doctor --format json | jq '.abilities[] | select(.here == "no")'

Exit codes: 0 boxes work on this host, 3 they don't."""


@click.command(epilog=_EPILOG)
@format_option
def doctor(format_: Format) -> int:
    """Try what boxes and publishing need on this host, and say what is missing and how to get it.

    Everything is tried for real and leaves nothing behind.
    """
    return report_host(format_)
