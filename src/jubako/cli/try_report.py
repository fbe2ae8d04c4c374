"""How `jubako try` shows what a command did: by directory, in words, and text files as diffs."""

from __future__ import annotations

from jubako.cli.box_report import format_size
from jubako.cli.terminal import echo, printable, style

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jubako.boxes.commands.box_files import BoxFiles
    from jubako.layers.change import Change

__all__ = ["show_changes", "show_diffs"]

_WORDS = {"metadata": "mode, owner or times"}
_COLOURS = {"added": "green", "deleted": "red", "replaced": "magenta", "metadata": "cyan"}
_LINES_AT_FIRST = 40
_DIFF_LINES_AT_FIRST = 60


def show_changes(changes: Sequence[Change], *, everything: bool, err: bool) -> None:
    """Prints the changes, a heading for each directory. A new directory is one line unless `everything` is wanted."""
    lines = list(_group(changes, everything=everything))
    shown = lines if everything else lines[:_LINES_AT_FIRST]
    folder = None
    for change, below in shown:
        above, _, name = change.path.rpartition("/")
        if above != folder:
            folder = above
            echo(f"{printable(above)}/", err=err)
        echo(f"  {_describe(change, printable(name), below, err=err)}", err=err)
    if len(shown) < len(lines):
        echo(f"... and {len(lines) - len(shown)} more", err=err)


def show_diffs(changes: Sequence[Change], files: BoxFiles, *, everything: bool, err: bool) -> None:
    """Prints how text files differ, the first lines of all that unless `everything` is asked for."""
    from jubako.boxes.commands.text_diff import diff_text  # for who looks at text

    left = _DIFF_LINES_AT_FIRST
    for change in changes:
        if not everything and change.kind in ("added", "deleted"):
            continue  # all of it is new, or gone: the name says it
        diff = diff_text(files, change)
        if diff is None:
            continue
        if diff.why_not and everything:
            echo(style(f"{printable(change.path)}: {diff.why_not}, no diff", "grey", bold=False, err=err), err=err)
        for line in diff.lines:
            if left <= 0 and not everything:
                echo("... more of it: answer s, or see 'jubako try summary'", err=err)
                return
            left -= 1
            echo(_colour(printable(line.replace("\t", "    ")), err=err), err=err)


def _group(changes: Sequence[Change], *, everything: bool) -> Iterable[tuple[Change, int]]:
    """The changes by directory, with how many more are below the new directories that stand for all in them."""
    whole: dict[str, int] = {}
    shown: list[Change] = []
    inside: dict[str, str | None] = {}  # a directory: the new one it is, or is in
    for change in changes:
        folder = change.path.rpartition("/")[0]
        top = inside.get(folder)
        if change.type == "directory":
            inside[change.path] = top or (change.path if change.kind in ("added", "replaced") else None)
        if top is None or everything:
            shown.append(change)
            whole[change.path] = 0
        else:
            whole[top] += 1
    shown.sort(key=lambda change: (change.path.rpartition("/")[0], change.path))
    return [(change, whole[change.path]) for change in shown]


def _describe(change: Change, name: str, below: int, *, err: bool) -> str:
    word = style(f"{_WORDS.get(change.kind, change.kind):<9}", _COLOURS.get(change.kind, "yellow"), bold=False, err=err)
    if change.type == "directory":
        return f"{word} {name}/" + (f" and {below} below" if below else "")
    if change.type != "file":
        return f"{word} {name} ({change.type})"
    return f"{word} {name}" + ("" if change.kind == "deleted" else f" ({format_size(change.size_bytes)})")


def _colour(line: str, *, err: bool) -> str:
    if line.startswith(("---", "+++")):
        return style(line, "grey", err=err)
    colours = {"+": "green", "-": "red", "@": "cyan"}
    return style(line, colours[line[0]], bold=False, err=err) if line[:1] in colours else line
