"""`jubako lsns`: the namespaces there are, and who is in them."""

from __future__ import annotations

import click

from jubako.cli.declare import format_option
from jubako.cli.formats import echo_document
from jubako.cli.lsns_report import echo_unseen, members_document, namespaces_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.cli.document import Format

__all__ = ["lsns"]

_TYPES = ("mnt", "net", "ipc", "user", "pid", "uts", "cgroup", "time")
_EPILOG = """\b
Examples:
  jubako lsns --type user --type pid
  jubako lsns --format json | jq '.namespaces[] | select(.processes == 0)'
  jubako lsns 4026531836"""


@click.command(epilog=_EPILOG)
@click.option(
    "-t", "--type", "types", type=click.Choice(_TYPES), multiple=True, help="Of this type only; may be repeated."
)
@click.option("-p", "--task", type=click.IntRange(min=1), metavar="PID", help="Those that process PID is in.")
@format_option
@click.argument("namespace", required=False, type=click.IntRange(min=1))
def lsns(types: Sequence[str], task: int | None, format_: Format, namespace: int | None) -> None:
    """List the namespaces that you may look at, or the processes in NAMESPACE, a number of that list."""
    from jubako.boxes.namespaces.listing import list_namespaces, read_members
    from jubako.errors import InputError, WorkError

    if namespace is not None and (types or task is not None):
        raise InputError("NAMESPACE lists processes: --type and --task are for lists of namespaces")
    of_task = None
    if task is not None:
        members, _ = read_members([task])
        if not members:
            raise WorkError(
                f"the namespaces of process {task} are closed to you",
                hint="It is another user's, or has more rights than you.",
            )
        of_task = set(members[0].namespaces.values())
    listing = list_namespaces()
    if namespace is not None:
        found = [one for one in listing.namespaces if one.number == namespace]
        if not found:
            raise WorkError(f"there is no namespace {namespace} that you may look at", hint="'jubako lsns' lists them.")
        echo_document(members_document(found[0]), format_)
    else:
        shown = [
            one
            for one in listing.namespaces
            if (not types or one.type in types) and (of_task is None or one.number in of_task)
        ]
        echo_document(namespaces_document(shown, listing.unseen, format_), format_)
    if format_ == "table":
        echo_unseen(listing.unseen)
