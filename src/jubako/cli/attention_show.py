"""`jubako attention show`: maps that were saved, as a page, as images, or on the terminal."""

from __future__ import annotations

import os
import shutil
import sys

import click

from jubako.cli.box_report import format_size
from jubako.cli.terminal import echo, printable
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.attention.maps.maps import Maps
    from jubako.attention.maps.palette import Scale, Theme
    from jubako.attention.maps.terminal import Depth

__all__ = ["show"]


@click.command(
    epilog="\b\nExamples:\n  jubako attention show maps.npz -o maps.html\n"
    "  jubako attention show maps.npz --layer 3 --head 5 --svg figure.svg\n"
    "  jubako attention show before.npz --diff after.npz -o difference.html"
)
@click.option("-o", "--output", metavar="FILE", default="", help="Write a page (HTML) that needs nothing else.")
@click.option("--diff", metavar="FILE", default="", help="A second run: show it, and what it has more or less.")
@click.option("--layer", "layers", metavar="N", multiple=True, help="Only this layer, by number or name; repeatable.")
@click.option("--head", "heads", metavar="N", multiple=True, help="Only this head; repeatable.")
@click.option("--png", metavar="DIR", default="", help="Write an image of each map into a new directory.")
@click.option(
    "--svg", metavar="FILE", default="", help="Write a figure of one map: of --layer, and --head or the mean."
)
@click.option("--terminal", is_flag=True, help="Draw on the terminal too, as it is done without -o, --png and --svg.")
@click.option(
    "--scale", type=click.Choice(("linear", "sqrt", "log")), default="sqrt", help="Of the colours of images (sqrt)."
)
@click.option("--theme", type=click.Choice(("light", "dark")), default="light", help="Ground of images (light).")
@click.argument("maps_file", metavar="MAPS", type=click.Path())
def show(
    maps_file: str,
    output: str,
    diff: str,
    layers: Sequence[str],
    heads: Sequence[str],
    png: str,
    svg: str,
    terminal: bool,
    scale: Scale,
    theme: Theme,
) -> None:
    """Show maps: as a page, images, on the terminal.

    The file MAPS is one that 'jubako.attention.trace(...).save(MAPS)' wrote.

    Without -o, --png or --svg they are drawn on the terminal.
    """
    first = _choose(_load(maps_file), layers, heads)
    second = _choose(_load(diff), layers, heads) if diff else None
    shown = first if second is None else first.difference(second)
    if svg and len(shown.layers) != 1:
        raise InputError(
            f"--svg shows one map, and there are {len(shown.layers)} layers", hint="choose one with --layer"
        )
    if svg and len(heads) > 1:
        raise InputError(f"--svg shows one map, and {len(heads)} heads are chosen", hint="or none, for their mean")
    if output:
        from jubako.attention.maps.show import show as write_page

        size = write_page(first, output, other=second)
        echo(f"{printable(output)}: {_describe(shown)}, {format_size(size)}")
    if png:
        from jubako.verify.publishing import publish_files

        count = publish_files(png, _draw_all(shown, scale, theme))
        echo(f"{printable(png)}: {count} images")
    if svg:
        from jubako.attention.maps.svg import SVG_MARK
        from jubako.verify.publishing import publishing

        text = shown.svg(0, _one_head(shown), scale=scale, theme=theme)
        with publishing(svg, SVG_MARK, "figure of a map") as file:
            file.write(text.encode())
        echo(f"{printable(svg)}: {format_size(len(text.encode()))}")
    if terminal or not (output or png or svg):
        _draw_on_terminal(shown, is_one=len(shown.layers) == len(shown.heads) == 1)


def _load(path: str) -> Maps:
    from jubako.attention.libraries import load

    maps: Maps = load("jubako.attention.maps.maps").Maps.load(path)
    return maps


def _choose(maps: Maps, layers: Sequence[str], heads: Sequence[str]) -> Maps:
    return maps.select(list(dict.fromkeys(layers)) or None, list(dict.fromkeys(heads)) or None)


def _one_head(maps: Maps) -> int | None:
    return 0 if len(maps.heads) == 1 else None


def _draw_all(maps: Maps, scale: Scale, theme: Theme) -> Iterator[tuple[str, bytes]]:
    """An image of each map, called by the numbers of its layer and head, or by their places if they have names."""
    for layer in range(len(maps.layers)):
        for head in (*range(len(maps.heads)), *([None] if len(maps.heads) > 1 else [])):
            of = "mean" if head is None else f"head-{_number(maps.heads, head):02}"
            yield f"layer-{_number(maps.layers, layer):02}-{of}.png", maps.png(layer, head, scale=scale, theme=theme)


def _number(names: Sequence[str], place: int) -> int:
    return int(names[place]) if all(name.isdecimal() for name in names) and len(set(names)) == len(names) else place


def _describe(maps: Maps) -> str:
    from jubako.attention.maps.drawable import describe_shape

    return describe_shape(maps.weights.shape)


def _draw_on_terminal(maps: Maps, *, is_one: bool) -> None:
    width = shutil.get_terminal_size().columns
    place = (0, 0) if is_one else (None, None)
    echo(maps.text(*place, width=width, depth=_find_depth()))


def _find_depth() -> Depth:
    """Bits of colours that stdout takes: none if it is no terminal, or NO_COLOR is set."""
    if os.environ.get("NO_COLOR") or not sys.stdout.isatty():
        return 0
    if os.environ.get("COLORTERM") in ("truecolor", "24bit"):
        return 24
    return 8 if "256color" in os.environ.get("TERM", "") else 0
