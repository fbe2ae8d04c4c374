"""`jubako box ...`: run any command on a copy-on-write view of this machine, and see to the boxes that stay.

Those of commands that have ended are kept; others live (`box_living`). Commands for both find out which one is meant.
The command owns stdin, stdout and its exit code; what we say goes to stderr, or with `--changes-to` into a file.
"""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem

from jubako.boxes.state import default_state_root
from jubako.cli.box_exec import exec_command
from jubako.cli.box_living import LIVING_COMMANDS, complete_names
from jubako.cli.box_ls import list_boxes
from jubako.cli.box_options import BOX_OPTIONS, USAGE_OPTION, box_of
from jubako.cli.box_profile import profile
from jubako.cli.box_report import changes_document, echo_committed, echo_ending, echo_notes, echo_summary
from jubako.cli.box_run import OPTIONS, run_command
from jubako.cli.declare import declare, format_option
from jubako.cli.formats import echo_document
from jubako.cli.terminal import echo, printable
from jubako.errors import ConflictError, InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from jubako.boxes.living.find import Found
    from jubako.cli.document import Format

__all__ = ["box"]

_COMMAND = {"allow_interspersed_args": False}  # what follows the first word of CMD is CMD's


def _epilog(*examples: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)


def _complete_ids(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from jubako.boxes.commands.kept_boxes import kept_boxes

    return [
        CompletionItem(record.id, help=printable(record.label))
        for record in kept_boxes().records
        if record.id.startswith(incomplete)
    ] + complete_names(_context, _parameter, incomplete)


def _find_living(name: str) -> Found | None:
    """The living box that is meant, None if it is a kept one or none at all."""
    from jubako.boxes.living.find import find_living

    return find_living(default_state_root(), name)


@click.group(epilog=_epilog("jubako box run -- make install", "jubako box run --keep -- ./upgrade.sh"))
def box() -> None:
    """Run any command on a copy-on-write view of this machine; nothing changes until you commit it."""


@box.command(
    context_settings=_COMMAND,
    epilog=_epilog(
        "jubako box run -- make install",
        "jubako box run --commit ~/site -- ./build.sh      # publish what it wrote there, if it succeeds",
        "jubako box run --keep -- pip install numpy        # and look around: jubako box enter ID",
    ),
)
@declare(*OPTIONS)
@click.argument("command", nargs=-1, required=True, metavar="[--] CMD...", type=click.UNPROCESSED)
def run(command: Sequence[str], **options: Any) -> int:
    """Run CMD on a copy-on-write view of this machine, and list what it changed.

    The changes are dropped afterwards unless you keep or commit them. The exit code is CMD's.
    """
    return run_command(command, **options)


@box.command("ls", epilog=_epilog("jubako box ls", "jubako box ls --format json"))
@format_option
def ls(format_: Format) -> int:
    """List the boxes, the oldest first: those that live, and what is kept of commands that have ended."""
    return list_boxes(format_)


@box.command(epilog=_epilog("jubako box changes 3f9c", "jubako box changes 3f9c --format csv"))
@click.argument("box_id", metavar="ID", shell_complete=_complete_ids)
@format_option
def changes(box_id: str, format_: Format) -> None:
    """List what the box ID holds that this machine has not. A name will do, and the start of an id.

    A living box that runs holds still meanwhile.
    """
    living = _find_living(box_id)
    if living is not None:
        from jubako.boxes.living.contents import read_living_changes

        record, found = living.record, read_living_changes(living)
    else:
        from jubako.boxes.commands.kept_boxes import read_kept_changes

        record, found = read_kept_changes(box_id)
    facts = {"id": record.id, "label": record.label, "error": record.error}
    echo_document(changes_document(found, format_, facts=facts), format_)
    if format_ == "table":
        echo_summary(found)


@box.command(context_settings=_COMMAND, epilog=_epilog("jubako box enter 3f9c", "jubako box enter 3f9c -- git diff"))
@declare(*BOX_OPTIONS, USAGE_OPTION)
@click.argument("box_id", metavar="ID", shell_complete=_complete_ids)
@click.argument("command", nargs=-1, metavar="[-- CMD...]", type=click.UNPROCESSED)
def enter(box_id: str, command: Sequence[str], usage: bool, **box_options: Any) -> int:
    """Run CMD, or your shell, in the box ID.


    What you change in a living box stays in it. In a kept one it is dropped when you leave.
    """
    words = command[1:] if command[:1] == ("--",) else command  # click leaves the one behind ID
    argv = words or (os.environ.get("SHELL") or "/bin/sh",)
    if _find_living(box_id) is not None:
        if usage or any(box_options.values()):
            raise InputError(
                f"the options of 'enter' are for kept boxes: box {box_id} is as it was made",
                hint=f"'jubako box create --from {box_id}' makes another one, once this one is stopped.",
            )
        return exec_command(box_id, argv, tty=None, settings=(), cwd=None, detach=False)
    from jubako.boxes.commands.kept_boxes import enter_box
    from jubako.cli.box_terminal import lend_terminal

    with lend_terminal(is_wanted=None) as adapt:
        entered = enter_box(box_id, argv, box_of(**box_options, measure=usage), adapt=adapt)
    with entered as result:
        if not words:  # what can be written matters to who works in there, not to who reads one thing
            echo_notes(result.notes)
        echo_ending(result, usage=usage)
        return result.exit_status


@box.command(epilog=_epilog("jubako box diff web /etc", "jubako box diff 3f9c | patch -p0 --dry-run"))
@click.argument("box_id", metavar="ID", shell_complete=_complete_ids)
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path())
def diff(box_id: str, paths: Sequence[str]) -> int:
    """Print how text files of the box ID differ from this machine's, those at and below each PATH, or all.

    The exit code is 1 if one does, and 0 if none, as that of 'diff'. Of a file that is no text, or above 256 KiB, only
    the name is said.
    """
    from jubako.cli.box_diff import print_diff

    return print_diff(box_id, paths)


@box.command(epilog=_epilog("jubako box commit 3f9c /usr/local", "jubako box commit 3f9c      # all of it"))
@click.argument("box_id", metavar="ID", shell_complete=_complete_ids)
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path())
def commit(box_id: str, paths: Sequence[str]) -> None:
    """Publish what the box ID changed at and below each PATH (all of it without one), in one transaction.

    It is refused, and nothing is published, if something else changed one of these since the box was started, or if
    the box runs.
    """
    living = _find_living(box_id)
    if living is not None:
        from jubako.boxes.living.contents import commit_living

        committed = commit_living(living, default_state_root(), paths or ("/",), cwd=None)
    else:
        from jubako.boxes.commands.kept_boxes import commit_box

        committed = commit_box(box_id, paths or ("/",))
    echo_committed(committed, paths)


@box.command(epilog=_epilog("jubako box rm 3f9c 77b0", "jubako box rm --force web", "jubako box rm --all"))
@click.option("--all", "all_", is_flag=True, help="Remove every kept box; not those that live, for which 'prune' is.")
@click.option("--force", "-f", is_flag=True, help="Stop a living box that runs, without giving it time.")
@click.argument("box_ids", nargs=-1, metavar="[ID]...", shell_complete=_complete_ids)
def rm(box_ids: Sequence[str], all_: bool, force: bool) -> None:
    """Remove boxes and what they hold; refused while someone is in one of them."""
    from jubako.boxes.commands.kept_boxes import kept_box_ids, remove_boxes
    from jubako.boxes.living.life import remove_living

    if all_ == bool(box_ids):
        raise click.UsageError("Name the boxes to remove, or say --all.")
    state = default_state_root()
    living = {one: found for one in box_ids if (found := _find_living(one)) is not None}
    for found in living.values():
        if found.is_running and not force:
            raise ConflictError(
                f"box {found.name} is running; nothing was removed",
                hint=f"'jubako box stop {found.name}' first, or 'jubako box rm --force {found.name}'.",
            )
    for removed in remove_boxes(kept_box_ids() if all_ else [one for one in box_ids if one not in living]):
        echo(removed)
    for found in living.values():
        remove_living(found, state, force=force)
        echo(found.name)


box.add_command(profile)
for _living_command in LIVING_COMMANDS:
    box.add_command(_living_command)
