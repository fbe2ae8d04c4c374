"""What `jubako box exec`, and `enter` of a living box, take and do. Needs no click, as `box run`."""

from __future__ import annotations

import os

from jubako.cli.line import Option
from jubako.cli.mount_values import parse_settings
from jubako.cli.terminal import echo, printable
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["EXEC_OPTIONS", "exec_command", "split_command"]

EXEC_OPTIONS = (
    Option(
        ("--tty", "--no-tty"),
        "tty",
        "Give CMD a terminal of the box's own (default: if stdin and stdout are one).",
        default=None,
        short="-t",
    ),
    Option(
        ("--env",),
        "settings",
        "Set a variable of CMD's environment; may be repeated.",
        takes="values",
        default=(),
        metavar="NAME=VALUE",
        short="-e",
    ),
    Option(
        ("--cwd",),
        "cwd",
        "Start CMD in this directory of the box; by default where the box was made.",
        takes="value",
        default=None,
        metavar="DIR",
    ),
    Option(("--detach",), "detach", "Leave CMD running, its output in the box's log.", short="-d"),
)


def exec_command(
    name: str, command: Sequence[str], *, tty: bool | None, settings: Sequence[str], cwd: str | None, detach: bool
) -> int:
    """Runs a command in a living box; the command's exit code."""
    from jubako.boxes.living.attach import attach
    from jubako.boxes.living.keeper import CommandNotStarted, open_log
    from jubako.boxes.living.living_box import find_box

    if detach and tty:
        raise InputError("--detach and --tty exclude each other", hint="A terminal is for somebody who is there.")
    box = find_box(name)
    given = parse_settings(settings)
    is_terminal = os.isatty(0) and os.isatty(1) if tty is None else tty
    try:
        if detach:
            null, log = os.open(os.devnull, os.O_RDONLY), open_log(box.directory)
            try:
                program = box.start_program(command, cwd=cwd, settings=given, stdio=(null, log, log), detach=True)
            finally:
                os.close(null)
                os.close(log)
            echo(str(program.pid))
            program.close()
            return 0
        program = box.start_program(command, cwd=cwd, settings=given, tty=is_terminal and not detach)
    except CommandNotStarted as error:
        echo(f"Error: {printable(error.message)}", err=True)
        return error.exit_status
    with program:
        return attach(program)


def split_command(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The box and the command of `NAME [--] CMD...`."""
    name, *command = words
    if command[:1] == ["--"]:
        command = command[1:]
    return name, command
