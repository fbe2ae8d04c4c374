"""`jubako unshare`: run a program in new namespaces."""

from __future__ import annotations

from jubako.cli.getopt_command import GetoptCommand
from jubako.cli.unshare_line import SWITCHES, run_unshare

__all__ = ["unshare"]

unshare = GetoptCommand(
    "unshare",
    run_unshare,
    SWITCHES,
    help="Run CMD, or your shell, in new namespaces. A FILE keeps one there after CMD has ended.",
    epilog="""\b
Examples:
  jubako unshare -r --pid --fork --mount-proc ps ax
  sudo jubako unshare --mount --propagation slave bash""",
)
