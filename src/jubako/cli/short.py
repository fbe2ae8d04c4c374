"""The command lines that are read without click, whose import takes longer than what they do.

Only those that leave no doubt: `find_call` declines every other, and click reads it. What happens is the same, since
both call the same functions, and both know the options from the same tables.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["find_call"]


def find_call(arguments: Sequence[str]) -> Callable[[], int] | None:
    """What the line asks for, which returns the exit code; None if it is for click to say."""
    if os.environ.get("_JUBAKO_COMPLETE"):  # a shell asks for a word
        return None
    match arguments:
        case ["--version"]:
            return _print_version
        case ["doctor"]:
            from jubako.cli.doctor_report import report_host

            return lambda: report_host("table")
        case ["box", "ls"]:
            from jubako.cli.box_ls import list_boxes

            return lambda: list_boxes("table")
        case ["box", "run", *words]:
            from jubako.cli.box_run import OPTIONS, run_command
            from jubako.cli.line import read_line

            if (read := read_line(OPTIONS, words)) is not None:
                options, command = read
                return lambda: run_command(command, **options)
        case ["box", "exec", *words]:
            from jubako.cli.box_exec import EXEC_OPTIONS, exec_command, split_command
            from jubako.cli.line import read_line

            if (read := read_line(EXEC_OPTIONS, words)) is not None:
                options, rest = read
                name, of_box = split_command(rest)
                if of_box:
                    return lambda: exec_command(name, of_box, **options)
        case ["try", *words]:
            from jubako.cli.line import read_line
            from jubako.cli.try_run import OPTIONS as TRY_OPTIONS
            from jubako.cli.try_run import VERBS, run_try

            if (read := read_line(TRY_OPTIONS, words)) is not None and read[1][0] not in VERBS:
                options, command = read
                return lambda: run_try(command, **options)
        case ["unshare", *words]:
            from jubako.cli import unshare_line
            from jubako.cli.getopt_line import asks_for

            if not asks_for(("help", "version"), unshare_line.SWITCHES, words):
                return lambda: unshare_line.run_unshare(words)
        case ["nsenter", *words]:
            from jubako.cli import nsenter_line
            from jubako.cli.getopt_line import asks_for

            if not asks_for(("help", "version"), nsenter_line.SWITCHES, words):
                return lambda: nsenter_line.run_nsenter(words)
    return None


def _print_version() -> int:
    from jubako._version import __version__
    from jubako.cli.terminal import echo

    echo(f"jubako {__version__}")
    return 0
