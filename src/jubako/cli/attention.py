"""`jubako attention ...`: attention layers, checked and shown."""

from __future__ import annotations

import click

from jubako.cli.attention_check import check
from jubako.cli.attention_show import show

__all__ = ["attention"]

_EPILOG = """\b
Examples:
  jubako attention check model.safetensors
  jubako attention show maps.npz -o maps.html"""


@click.group(epilog=_EPILOG)
def attention() -> None:
    """Attention layers: re-derive them step by step, and see who looks at whom."""


attention.add_command(check)
attention.add_command(show)
