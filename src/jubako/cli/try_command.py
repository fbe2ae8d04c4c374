"""`jubako try ...`: run a command, see what it did, then commit, discard or keep it."""

from __future__ import annotations

import os

import click

from jubako.boxes.commands.on_boxes import Ground, run_on_boxes
from jubako.boxes.state import default_state_root
from jubako.cli.box_report import echo_committed
from jubako.cli.declare import declare
from jubako.cli.terminal import echo
from jubako.cli.try_run import OPTIONS, OPTIONS_OF_BOX, VERBS, choice_of, run_try, show_box, try_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["try_"]


@click.command(
    "try",
    context_settings={"allow_interspersed_args": False},
    epilog="\b\nExamples:\n  jubako try ./upgrade.sh                # and say afterwards what becomes of it\n"
    "  jubako try -y -E '\\.cache/' make install\n"
    "  jubako try -N ~/trial pip install numpy;  jubako try explore ~/trial;  jubako try commit ~/trial",
)
@declare(*OPTIONS)
@click.version_option(None, "-v", "--version", package_name="jubako", message="%(package)s %(version)s")
@click.argument("command", nargs=-1, required=True, metavar="[--] CMD... | summary BOX | commit BOX | explore [BOX]")
def try_(command: Sequence[str], **options: Any) -> int:
    """Run CMD on a copy-on-write view of this machine, show what it did, and ask whether to commit it.

    BOX is the id of a kept box or the DIR of -N: 'summary' shows what it holds, 'commit' publishes that, 'explore'
    opens your shell on it. One CMD with spaces is a line for /bin/sh.
    """
    if command[0] not in VERBS:
        return run_try(command, **options)
    return run_verb(command[0], command[1:], **options)


def run_verb(verb: str, words: Sequence[str], **options: Any) -> int:
    """`summary`, `commit` or `explore`; the exit code."""
    if len(words) > 1 or (verb != "explore" and not words):
        raise click.UsageError(f"'{verb}' takes one box: its id, or the DIR of -N. ('try -- {verb}' runs a program.)")
    allowed = {"excluded", "included"} | (
        {"cut_off", "always", "never", *OPTIONS_OF_BOX} if verb == "explore" else set()
    )
    given = [option.names[0] for option in OPTIONS if options[option.parameter] != option.default]
    if wrong := [n for n, p in ((o.names[0], o.parameter) for o in OPTIONS) if n in given and p not in allowed]:
        raise click.UsageError(f"'{verb}' does not go with {', '.join(wrong)}.")
    if verb == "explore":
        return _explore(words[0] if words else None, options)
    name, box_id = _find(words[0])
    choice = choice_of(options["excluded"], options["included"])
    from jubako.boxes.commands.kept_boxes import commit_box, read_kept_changes

    if verb == "summary":
        record, found = read_kept_changes(box_id)
        directory = os.path.join(default_state_root().boxes_path, record.id)
        shown = [change for change in found if choice is None or not choice.leaves_out(change)]
        show_box(directory, record, shown, everything=True, err=False)
        return 0
    committed = commit_box(box_id, leave_out=None if choice is None else choice.leaves_out)
    echo_committed(committed, ())
    if name is not None:
        from jubako.boxes.commands.named_box import drop_name

        drop_name(default_state_root(), name)
    return 0


def _explore(word: str | None, options: dict[str, Any]) -> int:
    """A shell on a box, which holds what was done in it afterwards; on a new one without `word`."""
    argv = (os.environ.get("SHELL") or "/bin/sh",)
    if word is None:
        return run_try(argv, **options)
    name, prefix = _find(word)
    from jubako.boxes.keeping.kept import find_box_id, read_box
    from jubako.cli.box_options import box_of
    from jubako.records import replace

    boxes = default_state_root().boxes_path
    box_id = find_box_id(boxes, prefix)
    ground = Ground((box_id,), replaced=True)
    cwd = read_box(boxes, box_id).cwd
    box = box_of(**{name_: options[name_] for name_ in OPTIONS_OF_BOX})
    if options["cut_off"]:
        box = replace(box, network="none")
    echo("What you change in here is kept in the box until it is committed. Leave with 'exit'.", err=True)
    return try_command(
        argv,
        lambda words: run_on_boxes(words, box, ground=ground, keep=True, cwd=cwd),
        name=name,
        choice=choice_of(options["excluded"], options["included"]),
        decide="keep" if options["never"] else "commit" if options["always"] else "ask",
    )


def _find(word: str) -> tuple[str | None, str]:
    """The name and the id of a box; no name if `word` is an id."""
    from jubako.boxes.commands.named_box import find_named

    named = find_named(default_state_root(), word)
    return (word, named) if named is not None else (None, word)
