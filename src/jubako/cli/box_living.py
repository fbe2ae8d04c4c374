"""`jubako box create, exec, ps, ...`: boxes that live, from making one to removing what is left of them."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from jubako.boxes.state import default_state_root
from jubako.cli.box_create import CREATE_OPTIONS, create_command
from jubako.cli.box_exec import EXEC_OPTIONS, exec_command
from jubako.cli.box_living_report import info_document, members_document, ps_document
from jubako.cli.box_report import echo_notes
from jubako.cli.declare import declare, format_option
from jubako.cli.formats import echo_document
from jubako.cli.terminal import echo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from jubako.cli.document import Format

__all__ = ["LIVING_COMMANDS", "complete_names"]

_COMMAND = {"allow_interspersed_args": False}  # what follows the first word of CMD is CMD's


def _epilog(*examples: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)


def complete_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of living boxes, for a shell."""
    from jubako.boxes.living.find import list_living

    found, _unreadable = list_living(default_state_root())
    return [CompletionItem(one.name, help=one.phase) for one in found if one.name.startswith(incomplete)]


_name = click.argument("name", metavar="BOX", shell_complete=complete_names)
_box_name = click.argument("box_name", metavar="BOX", shell_complete=complete_names)


@click.command(
    context_settings=_COMMAND,
    epilog=_epilog(
        "jubako box create --name web -- python3 -m http.server",
        "jubako box create --name dev && jubako box enter dev",
        "jubako box create --from 3f9c01ab --name again     # begins with what that box holds",
    ),
)
@declare(*CREATE_OPTIONS)
@click.argument("command", nargs=-1, metavar="[-- CMD...]", type=click.UNPROCESSED)
def create(command: Sequence[str], **options: Any) -> int:
    """Make a box that lives, and start it in the background; print its name.

    CMD is its main command: the box runs as long as that, and logs what it prints. Without one it runs until you stop
    it. What is written in it stays until you remove it.
    """
    return create_command(command, **options)


@click.command(
    "exec",
    context_settings=_COMMAND,
    epilog=_epilog("jubako box exec web -- ls -l", "jubako box exec --env DEBUG=1 web -- ./test.sh"),
)
@declare(*EXEC_OPTIONS)
@_name
@click.argument("command", nargs=-1, required=True, metavar="[--] CMD...", type=click.UNPROCESSED)
def exec_(name: str, command: Sequence[str], **options: Any) -> int:
    """Run CMD in the living box BOX; the exit code is CMD's. Any number may run at once.

    A box that doesn't run is started for it, without its main command, and ends when the last such CMD has ended.
    """
    words = command[1:] if command[:1] == ("--",) else command
    if not words:
        raise click.UsageError("There is no command to run.")
    return exec_command(name, words, **options)


@click.command(epilog=_epilog("jubako box start web", "jubako box start 3f9c          # the start of an id will do"))
@_name
def start(name: str) -> None:
    """Start the stopped box BOX again, with its main command and all that was written in it."""
    from jubako.boxes.living.living_box import find_box

    box = find_box(name)
    box.start()
    echo_notes(box.notes)
    echo(box.name)


@click.command(epilog=_epilog("jubako box stop web", "jubako box stop --time 60 db cache"))
@click.option(
    "--time",
    "-t",
    "grace_s",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait before everything is killed.",
)
@click.argument("names", nargs=-1, required=True, metavar="BOX...", shell_complete=complete_names)
def stop(names: Sequence[str], grace_s: float) -> None:
    """Stop boxes: SIGTERM for the main command (for everything, where there is none), time to act on it, SIGKILL.

    What was written in them stays.
    """
    from jubako.boxes.living.living_box import find_box

    boxes = [find_box(name) for name in names]
    for box in boxes:
        if not box.stop(grace_s=grace_s):
            echo(f"{box.name} was not running.", err=True)
        echo(box.name)


@click.command(epilog=_epilog("jubako box ps", "jubako box ps web", "jubako box ps --all --format json"))
@click.option("--all", "-a", "all_", is_flag=True, help="Boxes that don't run, too.")
@click.argument("name", required=False, metavar="[BOX]", shell_complete=complete_names)
@format_option
def ps(name: str | None, all_: bool, format_: Format) -> None:
    """List the boxes that run, those of 'jubako box run' among them; with BOX, the processes in it."""
    from jubako.boxes.living.find import get_living
    from jubako.boxes.living.overview import list_running, read_members

    state = default_state_root()
    if name is not None:
        if all_:
            raise click.UsageError("--all lists boxes, and BOX is one.")
        found = get_living(state, name)
        echo_document(members_document(read_members(found), format_), format_)
        if not found.is_running and format_ == "table":
            echo(f"Box {found.name} is not running: {found.phase}.", err=True)
        return
    rows, unreadable = list_running(state, all_=all_)
    echo_document(ps_document(rows, format_), format_)
    echo_notes(unreadable)
    if not rows and format_ == "table":
        echo(f"No box {'is there' if all_ else 'runs'}. 'jubako box create -- CMD' starts one.", err=True)


@click.command(epilog=_epilog("jubako box logs web", "jubako box logs --follow --tail 20 web"))
@click.option("--follow", "-f", is_flag=True, help="Go on until the box ends.")
@click.option("--tail", metavar="N", type=click.IntRange(min=0), help="Only the last N lines.")
@_name
def logs(name: str, follow: bool, tail: int | None) -> None:
    """Print what the main command of BOX, and what was started with 'exec --detach', has printed."""
    from jubako.boxes.living.find import get_living
    from jubako.cli.box_logs import print_log

    print_log(get_living(default_state_root(), name), follow=follow, tail=tail)


@click.command(epilog=_epilog("jubako box info web", "jubako box info web --format json"))
@_name
@format_option
def info(name: str, format_: Format) -> None:
    """Show all about BOX: what it runs, since when, how it ended, what it is made of and where its files are."""
    from jubako.boxes.living.find import get_living
    from jubako.boxes.living.overview import describe_box

    state = default_state_root()
    echo_document(info_document(describe_box(get_living(state, name), state), format_), format_)


@click.command(epilog=_epilog("jubako box snapshot web", "jubako box snapshot --name before-upgrade web"))
@click.option("--name", default="", metavar="NAME", help="Make a living box of it, which doesn't run, with this name.")
@_box_name
def snapshot(name: str, box_name: str) -> None:
    """Copy what BOX holds now into a box of its own, and print its id: to go back to, to look into, to begin with.

    A box that runs holds still meanwhile. Without --name it is a kept box: 'jubako box create --from ID' begins with
    it.
    """
    from jubako.boxes.living.living_box import find_box

    box_id = find_box(box_name).snapshot(name)
    echo(name or box_id)


@click.command(epilog=_epilog("jubako box cp ./site web:/srv", "jubako box cp web:/var/log/app.log ."))
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST")
def cp(source: str, destination: str) -> None:
    """Copy a file or a tree into a box (DST is BOX:PATH) or out of one (SRC is), as 'cp -a' does.

    With - for the other one, a tar archive comes from stdin or goes to stdout. A PATH that is relative starts where the
    box was made. A box that doesn't run is started for it, without its main
    command. Links in the box never lead out of it.
    """
    from jubako.cli.box_cp import copy

    copy(source, destination)


@click.command(epilog=_epilog("jubako box prune", "jubako box prune --all --yes"))
@click.option("--all", "-a", "all_", is_flag=True, help="Kept boxes, too: what commands left to be committed.")
@click.option("--yes", "-y", is_flag=True, help="Don't ask.")
def prune(all_: bool, yes: bool) -> int:
    """Remove every living box that doesn't run, and all they hold; say which before, and ask."""
    from jubako.cli.box_prune import prune_boxes

    return prune_boxes(all_=all_, yes=yes)


LIVING_COMMANDS = (create, exec_, start, stop, ps, logs, info, snapshot, cp, prune)
