"""`jubako mounts`: the mount table of this or any process as a tree, and how mounts propagate; `set` changes that."""

from __future__ import annotations

import os

import click

from jubako.cli.declare import format_option
from jubako.cli.formats import echo_document
from jubako.cli.mounts_report import echo_legend, mounts_document, set_document
from jubako.cli.terminal import echo, printable
from jubako.kernel.propagation import PROPAGATIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from jubako.cli.document import Format
    from jubako.kernel.mount_table import Mount
    from jubako.kernel.propagation import Propagation

__all__ = ["mounts"]

_EPILOG = """\b
Examples:
  jubako mounts
  jubako mounts --pid 1 /home
  jubako mounts set /mnt private --recursive

'show' need not be said: a word that is no command is a PATH, and --pid and --format are its options."""


class _ShowIsMeant(click.Group):
    """A group of which one command need not be named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asks_for_words = ctx.resilient_parsing and len(args) == 0  # a shell completes the first one
        if not asks_for_words and (not args or args[0] not in (*self.commands, *self.get_help_option_names(ctx))):
            args = ["show", *args]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[show] [--pid PID] [PATH] | set PATH KIND"]


@click.group(cls=_ShowIsMeant, epilog=_EPILOG)
def mounts() -> None:
    """The mount table as a tree, with who tells whom of new mounts, and how to change that."""


@mounts.command(
    epilog="\b\nExamples:\n  jubako mounts /mnt\n  jubako mounts show --pid 4711 --format json | jq '.mounts[].peers'"
)
@click.option("--pid", type=click.IntRange(min=1), metavar="PID", help="The mounts that process PID sees.")
@format_option
@click.argument("path", required=False, type=click.Path())
def show(pid: int | None, path: str | None, format_: Format) -> None:
    """Show mounts and how they propagate. With PATH, the one it lies on and those below it.

    Shared mounts are shown with their peers, slaves with those they receive from, also in the mount namespaces of other
    processes, as far as these can be looked at.
    """
    from jubako.kernel.mount_tree import find_covered, mounts_from
    from jubako.kernel.propagation import find_members, read_other_views

    table = _look(pid)
    shown = table
    if path is not None:
        mount_id, resolved = _find(path, pid, table)
        shown = mounts_from(table, mount_id, resolved)
    travels = any(mount.peer_group or mount.master for mount in shown)
    members = find_members(table, read_other_views(table) if travels else ())
    covered = find_covered(table)
    echo_document(mounts_document(shown, members, covered, format_, facts={"pid": pid}), format_)
    if format_ == "table":
        echo_legend(shown, covered)


@mounts.command(
    "set", epilog="\b\nExamples:\n  jubako mounts set /mnt shared\n  jubako mounts set / private --recursive"
)
@click.argument("path", type=click.Path())
@click.argument("propagation", type=click.Choice(list(PROPAGATIONS)), metavar="|".join(PROPAGATIONS))
@click.option("--recursive", "-r", is_flag=True, help="All mounts below it too: all of them, or none.")
@format_option
def set_(path: str, propagation: Propagation, recursive: bool, format_: Format) -> None:
    """Change how a mount propagates, and show what the kernel made of it."""
    from jubako.kernel.files import statx
    from jubako.kernel.mount_refusal import explain_propagation_refusal
    from jubako.kernel.mount_tree import mounts_from
    from jubako.kernel.propagation import set_propagation
    from jubako.kernel.syscalls import AT_FDCWD

    table = _look(None)
    before = {mount.id: mount for mount in table}
    try:
        statx(AT_FDCWD, path)  # the kernel looks at rights before it looks for the path
        set_propagation(path, propagation, recursive=recursive)
    except OSError as error:
        raise explain_propagation_refusal(error, path, os.path.realpath(path), table, propagation) from error
    table = _look(None)
    mount_id, resolved = _find(path, None, table)
    changed = mounts_from(table, mount_id, resolved) if recursive else [one for one in table if one.id == mount_id]
    echo_document(set_document(changed, before, format_), format_)
    if propagation == "slave" and (alone := [mount for mount in changed if not mount.master]):
        names = ", ".join(printable(mount.mount_point) for mount in alone[:3])
        more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
        echo(f"note: {names}{more} had nobody to receive from, and so became private", err=True)


def _look(pid: int | None) -> list[Mount]:
    from jubako.kernel.mount_refusal import explain_table_refusal
    from jubako.kernel.statmount import look_at_mounts

    try:
        return look_at_mounts(pid)
    except OSError as error:
        raise explain_table_refusal(error, pid) from error


def _find(path: str, pid: int | None, table: list[Mount]) -> tuple[int, str]:
    """The id of the mount that `path` lies on, and the path without links. Of another process, as it would name it."""
    from jubako.errors import InputError
    from jubako.kernel.files import statx
    from jubako.kernel.mount_table import find_mount
    from jubako.kernel.syscalls import AT_FDCWD

    if pid is None:
        try:
            return statx(AT_FDCWD, path, 0).mnt_id, os.path.realpath(path)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}", hint="'jubako mounts' lists all mounts.") from error
    resolved = os.path.abspath(path)
    found = find_mount(table, resolved)
    if found is None:
        raise InputError(f"process {pid} sees no mount that {path} lies on", hint=f"jubako mounts --pid {pid}")
    return found.id, resolved
