"""`jubako attention`: looking at attention layers. Each command has a file of its own."""

from __future__ import annotations

import click

from jubako.cli.attention_check import check

__all__ = ["attention"]

_EPILOG = """\b
Examples:
  jubako attention check model.safetensors
  jubako attention check model.py:layer --format json"""


@click.group(epilog=_EPILOG)
def attention() -> None:
    """Re-derive attention layers step by step, and say whether they agree."""


attention.add_command(check)
