"""`jubako nsenter`: run a program in the namespaces of another process."""

from __future__ import annotations

from jubako.cli.getopt_command import GetoptCommand
from jubako.cli.nsenter_line import SWITCHES, run_nsenter

__all__ = ["nsenter"]

nsenter = GetoptCommand(
    "nsenter",
    run_nsenter,
    SWITCHES,
    help="Run CMD, or your shell, in namespaces of another process, or in those kept by a FILE.",
    epilog="""\b
Examples:
  sudo jubako nsenter --target 4711 --all
  sudo jubako nsenter --net=/run/netns/blue ip address""",
)
