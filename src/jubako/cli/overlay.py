"""`jubako overlay ...`: overlays by hand: mount one, unmount it, see what its upper directory says, publish that."""

from __future__ import annotations

import os

import click

from jubako.cli.declare import format_option
from jubako.cli.formats import echo_document
from jubako.cli.overlay_report import changes_document, echo_summary
from jubako.cli.terminal import echo, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jubako.cli.document import Format
    from jubako.layers.hide import WhiteoutForm

__all__ = ["overlay"]

_LOWER_HELP = "A directory, or several: TOP:BELOW:LOWEST. Repeat it for more below. A colon in a name: \\:"

_USERXATTR_HELP = "Marks are for overlays mounted with userxattr, as all but root's are."


@click.group(
    epilog="\b\nExamples:\n  jubako overlay mount --lower lower1:lower2 --upper upper --work work merged\n"
    "  jubako overlay changes upper\n  jubako overlay umount merged"
)
def overlay() -> None:
    """Stack directories on one another, with a writable one on top; see what was written, and publish it."""


@overlay.command(
    epilog="\b\nExamples:\n  jubako overlay mount --lower lower1:lower2 merged\n"
    "  jubako overlay mount --lower /usr --upper upper --work work --volatile merged"
)
@click.option("--lower", "lowers", multiple=True, required=True, metavar="DIR[:DIR]...", help=_LOWER_HELP)
@click.option("--upper", default="", metavar="DIR", help="Where what is written goes. Needs --work.")
@click.option("--work", default="", metavar="DIR", help="An empty directory on the file system of the upper one.")
@click.option("--volatile", is_flag=True, help="Never sync: quick, and lost if the machine goes down.")
@click.option("--option", "-o", "options", multiple=True, metavar="NAME=VALUE", help="More for overlayfs.")
@click.argument("merged", type=click.Path())
def mount(lowers: Sequence[str], upper: str, work: str, volatile: bool, options: Sequence[str], merged: str) -> None:
    """Mount an overlay on the directory MERGED: read-only, or with --upper and --work writable.

    The first lower directory is the topmost: its files hide those of the same names further down.
    """
    from jubako.kernel.overlay_mounting import mount_layers

    split = [option.partition("=") for option in options]
    if wrong := [option for option, (_, equals, _) in zip(options, split, strict=True) if not equals]:
        raise click.UsageError(f"--option {wrong[0]} is not of the form NAME=VALUE.")
    mount_layers(
        merged,
        _join(lowers),
        upper=upper,
        work=work,
        volatile=volatile,
        options=[(name, value) for name, _, value in split],
    )


@overlay.command(epilog="\b\nExamples:\n  jubako overlay umount merged\n  jubako overlay umount --lazy merged")
@click.option("--lazy", is_flag=True, help="Also while it is in use: gone at once for all who come.")
@click.argument("merged", type=click.Path())
def umount(lazy: bool, merged: str) -> None:
    """Unmount the overlay at MERGED. What was written stays in its upper directory."""
    from jubako.kernel.overlay_mounting import unmount_layers

    layers = unmount_layers(merged, lazy=lazy)
    if layers.volatile:
        mark = printable(f"{layers.work}/work/incompat/volatile")
        echo(f"note: the overlay was volatile; to mount its upper directory again: sync; rm -r {mark}", err=True)


@overlay.command(
    epilog="\b\nExamples:\n  jubako overlay changes upper\n"
    "  jubako overlay changes upper --lower lower1:lower2 --format json"
)
@click.option("--lower", "lowers", multiple=True, metavar="DIR[:DIR]...", help=_LOWER_HELP)
@format_option
@click.argument("upper", type=click.Path())
def changes(lowers: Sequence[str], format_: Format, upper: str) -> None:
    """List what the upper directory UPPER of an overlay changes.

    It is compared with the lower directories: those named, or those of the overlay that is mounted with it. Where there
    are none, the marks that overlayfs left have to do.
    """
    from jubako.errors import HostError, InputError
    from jubako.kernel.overlay_mounting import find_overlays_of, needs_userxattr
    from jubako.kernel.overlay_options import parse_shown_options
    from jubako.layers.upper import read_upper

    layers: Sequence[str] = _join(lowers)
    if missing := [path for path in (upper, *layers) if not os.path.isdir(path)]:
        raise InputError(f"{', '.join(missing)}: no such directory", hint="Name the upper directory itself.")
    mounted = find_overlays_of(upper)
    if not layers and mounted:
        layers = parse_shown_options(mounted[0].super_options).lowers
    try:
        found = read_upper(upper, layers)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise HostError(
            f"{upper} or what is below it cannot be read ({error.strerror}{where})", hint="As its owner, or as root."
        ) from error
    echo_document(changes_document(found, format_, facts={"upper": upper, "lowers": list(layers)}), format_)
    if format_ == "table":
        echo_summary(found)
    if not layers:
        echo("note: told by overlayfs's marks alone; --lower names the directories to compare with", err=True)
    keeps_marks_for_all = any("userxattr" in mount.super_options.split(",") for mount in mounted)
    if (os.geteuid() != 0 or needs_userxattr()) and not keeps_marks_for_all:
        echo("note: marks of overlays that root mounted (trusted.overlay.*) are for root to read", err=True)


@overlay.command(
    epilog="\b\nExamples:\n  jubako overlay apply upper site\n"
    "  jubako overlay apply --lower lower1:lower2 upper copy-of-what-they-show"
)
@click.option("--lower", "lowers", multiple=True, metavar="DIR[:DIR]...", help=_LOWER_HELP)
@click.option("--userxattr", is_flag=True, help=_USERXATTR_HELP)
@click.argument("upper", type=click.Path())
@click.argument("directory", metavar="DIR", type=click.Path())
def apply(lowers: Sequence[str], userxattr: bool, upper: str, directory: str) -> None:
    """Make the directory DIR what an overlay of UPPER over it shows: all of that in one transaction, or nothing.

    The lower directories are needed for what was renamed (redirects) and for files of which only the metadata was
    changed (metacopy); DIR is the only one by default.
    """
    from jubako.boxes.commands.apply_upper import apply_upper

    committed = apply_upper(upper, directory, _join(lowers), userxattr=_is_user(userxattr))
    for line in committed.left_out:
        echo(f"warning: {printable(line)}", err=True)
    count = len(committed.plan.published)
    echo(f"Applied {count} {'change' if count == 1 else 'changes'} to {printable(directory)}.", err=True)


@overlay.command(
    epilog="\b\nExamples:\n  jubako overlay merge --lower upper:lower1:lower2 flat\n"
    "  jubako overlay merge --layer --lower upper2:upper1 both-changes"
)
@click.option("--lower", "lowers", multiple=True, required=True, metavar="DIR[:DIR]...", help=_LOWER_HELP)
@click.option("--layer", is_flag=True, help="Keep whiteouts and opaque directories: a layer to lie over others.")
@click.option("--userxattr", is_flag=True, help=_USERXATTR_HELP)
@click.argument("new", type=click.Path())
def merge(lowers: Sequence[str], layer: bool, userxattr: bool, new: str) -> None:
    """Make the new directory NEW of several layers: what they show together, as plain files.

    It appears whole, or not at all.
    """
    from jubako.boxes.commands.apply_upper import merge_layers

    for line in merge_layers(_join(lowers), new, keep_marks=layer, userxattr=_is_user(userxattr)):
        echo(f"warning: {printable(line)}", err=True)


@overlay.command(
    epilog="\b\nExamples:\n  jubako overlay hide --lower lower1 mask etc/secret home/old\n"
    "  jubako overlay mount --lower mask:lower1 merged"
)
@click.option("--lower", "lowers", multiple=True, metavar="DIR[:DIR]...", help="What the layer will lie over.")
@click.option("--form", type=click.Choice(("device", "attribute")), default="device", help="How whiteouts are written.")
@click.option("--userxattr", is_flag=True, help=_USERXATTR_HELP)
@click.argument("layer", type=click.Path())
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
def hide(lowers: Sequence[str], form: WhiteoutForm, userxattr: bool, layer: str, paths: Sequence[str]) -> None:
    """Make the directory LAYER hide each PATH of what it lies over. Paths are seen from the top of the overlay.

    With --lower, the directories above each PATH get the mode, owner and times they have there, and a PATH that is not
    there is refused.
    """
    from jubako.errors import HostError, InputError
    from jubako.layers.hide import hide_paths

    covered = _join(lowers)
    missing = [path for path in paths if not any(os.path.lexists(os.path.join(d, path.strip("/"))) for d in covered)]
    if covered and missing:
        raise InputError(f"{', '.join(missing)}: not in {', '.join(covered)}, so there is nothing to hide")
    try:
        hide_paths(layer, paths, covered, form=form, userxattr=_is_user(userxattr))
    except OSError as error:
        raise HostError(
            f"{layer} cannot be written ({error.strerror})",
            hint="Where no device can be made, --form attribute does without; it takes Linux 6.7.",
        ) from error


def _is_user(userxattr: bool) -> bool:
    """Whether marks are those of an overlay that keeps them in user.*, as it must for who is not root."""
    from jubako.kernel.overlay_mounting import needs_userxattr

    return userxattr or os.geteuid() != 0 or needs_userxattr()


def _join(lists: Iterable[str]) -> list[str]:
    from jubako.kernel.overlay_options import parse_layer_list

    return [path for one in lists for path in parse_layer_list(one)]
