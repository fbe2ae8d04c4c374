"""SVG for papers: one map with its tokens, a title and a scale, sharp at any size, and text that can be searched."""

from __future__ import annotations

from html import escape

from jubako.attention.maps.palette import DECADES, palette_of, tint_codes
from jubako.attention.maps.panel import MASKED, NOT_FINITE
from jubako.attention.maps.tokens import columns_of, cut, visible
from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.attention.maps.palette import Colour, Scale, Theme
    from jubako.attention.maps.panel import Coded

__all__ = ["LONGEST_SIDE", "SVG_MARK", "Figure", "draw_svg"]

SVG_MARK = b"<!-- jubako: a map -->"
LONGEST_SIDE = 256  # cells; more are drawn better by a PNG
_INKS = {"light": ("#211a17", "#6b6058", "#fffdf8"), "dark": ("#f2e9de", "#a99b8e", "#14110f")}
_LABELLED = 9  # pixels of a cell from which on its row and column are named
_SCALE_WIDTH = 220
_MOST_COLUMNS = 24  # of a token's text
_TITLE_FONT = "system-ui, sans-serif"
_FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"


@record
class Figure:
    """What an SVG shows: a map and what is written beside it."""

    coded: Coded
    queries: Sequence[str]
    keys: Sequence[str]
    title: str
    scale: Scale
    theme: Theme


def draw_svg(figure: Figure) -> str:
    """The figure. InputError: it has too many cells for one."""
    rows, columns = figure.coded.codes.shape
    if max(rows, columns) > LONGEST_SIDE:
        raise InputError(
            f"a map of {rows} x {columns} cells is too large for SVG, which has up to {LONGEST_SIDE} x {LONGEST_SIDE}",
            hint="draw it as a PNG",
        )
    cell = max(4, min(22, 720 // max(rows, columns)))
    font = min(12, cell - 1)
    is_named = cell >= _LABELLED
    left = _room_for(figure.queries, rows, font) if is_named else 12
    above = _room_for(figure.keys, columns, font) if is_named else 12
    top = 40 + above
    ink, soft, ground = _INKS[figure.theme]
    bar = top + rows * cell + 22
    title = visible(figure.title).replace("␣", " ")
    width = max(left + max(columns * cell, _SCALE_WIDTH + 180), 12 + 9 * columns_of(title)) + 16
    height = bar + 40
    title = escape(title)
    tints = tint_codes(figure.coded.levels, is_signed=figure.coded.is_signed, scale=figure.scale, theme=figure.theme)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{title}" font-family="{_FONT}" font-size="{font}" fill="{soft}">',
        SVG_MARK.decode(),
        f"<title>{title}</title>",
        f'<rect width="{width}" height="{height}" fill="{ground}"/>',
        f'<text x="12" y="25" font-size="15" font-weight="600" font-family="{_TITLE_FONT}" fill="{ink}">{title}</text>',
        f'<g transform="translate({left} {top}) scale({cell})" shape-rendering="crispEdges">',
        *_draw_cells(figure.coded, tints),
        "</g>",
    ]
    if is_named:
        lines += _draw_names(figure, left, top, cell)
    lines += _draw_scale(figure, left, bar)
    return "\n".join([*lines, "</svg>", ""])


def _draw_cells(coded: Coded, tints: Sequence[Colour]) -> Iterator[str]:
    """One path for each code: its cells, neighbours in a row as one piece."""
    pieces: dict[int, list[str]] = {}
    for y, row in enumerate(coded.codes.tolist()):
        start = 0
        for x in range(1, len(row) + 1):
            if x == len(row) or row[x] != row[start]:
                pieces.setdefault(row[start], []).append(f"M{start} {y}h{x - start}v1h{start - x}z")
                start = x
    for code in sorted(pieces):
        yield f'<path fill="{_hex(tints[code])}" d="{"".join(pieces[code])}"/>'


def _draw_names(figure: Figure, left: int, top: int, cell: int) -> Iterator[str]:
    rows, columns = figure.coded.codes.shape
    for i in range(rows):
        y = top + (i + 0.5) * cell
        yield f'<text x="{left - 6}" y="{y:g}" dy=".35em" text-anchor="end">{_name(figure.queries, i)}</text>'
    for j in range(columns):
        x = left + (j + 0.5) * cell
        place = f"translate({x:g} {top - 6}) rotate(-90)"
        yield f'<text transform="{place}" dy=".35em">{_name(figure.keys, j)}</text>'


def _draw_scale(figure: Figure, left: int, top: int) -> Iterator[str]:
    coded = figure.coded
    palette = palette_of(figure.theme, is_signed=coded.is_signed)
    step = _SCALE_WIDTH / 44
    for part in range(44):
        colour = _hex(palette[round(part / 43 * 253)])
        yield f'<rect x="{left + part * step:g}" y="{top}" width="{step + 0.5:g}" height="10" fill="{colour}"/>'
    for place in (0.0, 0.5, 1.0):
        at = left + place * _SCALE_WIDTH
        yield f'<text x="{at:g}" y="{top + 25}" font-size="11" text-anchor="middle">{_tick(figure, place)}</text>'
    beside = left + _SCALE_WIDTH + 26
    for code, name in ((MASKED, "masked"), (NOT_FINITE, "not a number")):
        if (coded.codes == code).any():
            yield f'<rect x="{beside}" y="{top}" width="10" height="10" fill="{_hex(palette[code])}"/>'
            yield f'<text x="{beside + 15}" y="{top + 9}" font-size="11">{name}</text>'
            beside += 75


def _tick(figure: Figure, place: float) -> str:
    """What the colour at a place of the scale, 0 to 1, stands for."""
    coded = figure.coded
    way = 2 * place - 1 if coded.is_signed else place
    if figure.scale == "log":
        if way == 0:
            return "0" if coded.is_signed else f"≤{coded.largest / 10**DECADES:.2g}"
        share = 10 ** (DECADES * (abs(way) - 1))
    else:
        share = abs(way) if figure.scale == "linear" else way * way
    value = share * coded.largest
    return f"{-value if way < 0 else value:{'+' if way > 0 and coded.is_signed else ''}.3g}"


def _room_for(tokens: Sequence[str], count: int, font: int) -> int:
    names = [cut(visible(token), _MOST_COLUMNS) for token in tokens] or [str(count)]
    return round(max(map(columns_of, names)) * font * 0.62) + 14


def _name(tokens: Sequence[str], place: int) -> str:
    return escape(cut(visible(tokens[place]), _MOST_COLUMNS)) if tokens else str(place)


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
