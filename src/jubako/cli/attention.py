"""`jubako attention ...`: attention layers, checked and shown."""

from __future__ import annotations

import click

from jubako.cli.attention_show import show

__all__ = ["attention"]


@click.group(
    epilog="\b\nExamples:\n  jubako attention show maps.npz -o maps.html\n"
    "  jubako attention show before.npz --diff after.npz -o difference.html"
)
def attention() -> None:
    """Attention layers: show who looks at whom."""


attention.add_command(show)
