"""What `jubako box run` takes and does. Needs no click: for a short command, importing that is half of the time.

The command owns stdin, stdout and its exit code; what we say goes to stderr, or with `--changes-to` into a file.
"""

from __future__ import annotations

from jubako.boxes.commands.launch import run_in_box
from jubako.cli.box_options import BOX_OPTIONS, NAME_OPTION, USAGE_OPTION, box_of
from jubako.cli.box_report import (
    changes_document,
    echo_committed,
    echo_ending,
    echo_notes,
    echo_summary,
    prepare_file,
    usage_facts,
    write_document,
)
from jubako.cli.formats import FORMAT_OPTION
from jubako.cli.line import Option
from jubako.cli.terminal import echo
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from jubako.boxes.commands.result import BoxResult
    from jubako.boxes.spec import Box
    from jubako.cli.document import Format

__all__ = ["OPTIONS", "run_command"]

OPTIONS = (
    Option(("--keep",), "keep", "Keep the box, to enter, commit or remove it later."),
    Option(("--tty",), "tty", "Give CMD a terminal of the box's own.", short="-t"),
    Option(("--detach",), "detach", "Run CMD in the background, in a box that lives, and print its name.", short="-d"),
    NAME_OPTION,
    Option(
        ("--commit",),
        "commit_paths",
        "Publish the changes at and below PATH if CMD succeeds; may be repeated.",
        takes="values",
        default=(),
        metavar="PATH",
    ),
    *BOX_OPTIONS,
    USAGE_OPTION,
    Option(
        ("--changes-to",),
        "changes_to",
        "Write the list of changes to FILE, - for stdout.",
        takes="value",
        default=None,
        metavar="FILE",
    ),
    FORMAT_OPTION,
)


def run_command(
    command: Sequence[str],
    *,
    keep: bool,
    tty: bool,
    detach: bool,
    name: str,
    commit_paths: Sequence[str],
    changes_to: str | None,
    format_: Format,
    usage: bool,
    **box_options: Any,
) -> int:
    """Runs the command in a box and lists what it changed; the command's exit code."""
    if detach:
        _refuse_beside("--detach", {"--tty": tty, "--keep": keep, "--commit": commit_paths, "--changes-to": changes_to})
        from jubako.cli.box_create import create_command  # a command in the foreground takes none of this

        return create_command(command, name=name, **box_options)
    if name:
        raise InputError("--name names a box that lives on", hint="Say --detach, too, or use 'jubako box create'.")
    if changes_to not in (None, "-"):
        prepare_file(changes_to)
    box = box_of(**box_options, measure=usage or format_ != "table")
    ran = (
        _run_on_terminal(command, box, keep, commit_paths)
        if tty
        else run_in_box(command, box, keep=keep, commit=commit_paths)
    )
    with ran as result:
        echo_notes(result.notes)
        echo_ending(result, usage=usage)
        committed = result.committed.plan.published if result.committed else ()
        found = sorted([*committed, *result.changes])
        document = changes_document(found, format_, committed=committed, facts=usage_facts(result))
        if changes_to in (None, "-"):
            write_document(document, format_, changes_to)
        echo_summary(found)
        if result.committed is not None:
            echo_committed(result.committed, commit_paths)
        elif commit_paths:
            echo(f"Nothing was committed, since the command failed with {result.exit_status}.", err=True)
        if result.id is not None:
            echo(f"Kept as {result.id}. Look around: jubako box enter {result.id}", err=True)
        elif result.changes and not commit_paths:
            echo("Dropped. Next time, --keep keeps them, and --commit PATH publishes some.", err=True)
        if changes_to not in (None, "-"):  # last, since this may fail, and all else has happened
            write_document(document, format_, changes_to)
        return result.exit_status


def _run_on_terminal(command: Sequence[str], box: Box, keep: bool, commit_paths: Sequence[str]) -> BoxResult:
    from jubako.cli.box_terminal import lend_terminal  # who has no terminal of the box's takes none of this

    with lend_terminal(is_wanted=True) as adapt:
        return run_in_box(command, box, keep=keep, commit=commit_paths, adapt=adapt)


def _refuse_beside(option: str, others: Mapping[str, object]) -> None:
    given = [name for name, value in others.items() if value]
    if given:
        raise InputError(
            f"{option} and {', '.join(given)} exclude each other",
            hint="The box stays, and 'jubako box changes' and 'commit' are for it when it has been stopped.",
        )
