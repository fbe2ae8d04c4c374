"""Maps on a terminal: two cells in a character by half blocks, or where there is room one row a line, with its token.

Colours are 24-bit, or the nearest of 256, or none: then shades stand for weights, and circles for those below zero.
A map that is too wide is made of blocks, each its cell furthest from zero.
"""

from __future__ import annotations

from jubako.attention.maps.drawable import describe_map
from jubako.attention.maps.palette import tint_codes
from jubako.attention.maps.panel import MASKED, NOT_FINITE, encode, read_rows, reduce
from jubako.attention.maps.tokens import columns_of, cut, visible
from jubako.records import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal, TypeAlias

    from jubako.attention.maps.drawable import Drawable
    from jubako.attention.maps.palette import Colour, Scale
    from jubako.attention.maps.panel import Coded

__all__ = ["Depth", "format_map", "format_overview"]

Depth: TypeAlias = "Literal[0, 8, 24]"  # bits of colours
_END = "\x1b[0m"
_LABEL = 14  # columns of a row's token
_MOST_ROWS = 64  # that are shown one a line
_SHADES = " ░▒▓█"
_BELOW = " ◦○◎●"


def format_map(maps: Drawable, layer: int, head: int | None, width: int, depth: Depth, scale: Scale = "sqrt") -> str:
    """One map, at most `width` columns wide, with a line for each row and where it looks if that fits."""
    weights, masked = maps.map_at(layer, head), maps.masked_at(layer, head)  # (L, S)
    coded = encode(weights, masked)
    rows, columns = weights.shape
    heading = f"{describe_map(maps, layer, head)}: largest {coded.largest:.3g}"
    if rows > _MOST_ROWS or _LABEL + 1 + 2 * columns > width:
        lines = _draw(coded, width, depth, scale)
        return "\n".join([_visible_line(heading), *lines])
    paint = _painter(coded, depth, scale)
    found = read_rows(weights, masked, 1)
    lines = []
    for i, line in enumerate(coded.codes.tolist()):
        name = cut(visible(maps.queries[i]) if maps.queries else str(i), _LABEL)
        drawn = "".join(paint(code, code, 2) for code in line) + (_END if depth else "")
        key = int(found.keys[i, 0])
        looks = f"  {cut(_name(maps.keys, key), _LABEL)} {found.values[i, 0]!s}" if key >= 0 else ""
        looks = looks if _LABEL + 1 + 2 * columns + columns_of(looks) <= width else ""
        lines.append(f"{' ' * (_LABEL - columns_of(name))}{name} {drawn}{looks}".rstrip())
    return "\n".join([_visible_line(heading), *lines])


def format_overview(maps: Drawable, width: int, depth: Depth, scale: Scale = "sqrt") -> str:
    """All maps, layer by layer, as small pictures side by side, the mean of the heads last."""
    layers, heads, *_ = maps.weights.shape
    side = max(8, min(32, width // (heads + 1) - 1))
    abreast = max(1, (width + 1) // (side + 1))
    lines = []
    for layer in range(layers):
        lines.append(_visible_line(describe_map(maps, layer, None).partition(",")[0]))
        places: list[int | None] = [*range(heads), None]
        for start in range(0, len(places), abreast):
            chosen = places[start : start + abreast]
            coded = [encode(maps.map_at(layer, head), maps.masked_at(layer, head)) for head in chosen]
            names = ["mean" if head is None else visible(maps.heads[head]) for head in chosen]
            lines.append(" ".join(_fill(cut(name, side), side) for name in names).rstrip())
            larger = [_enlarge(each, side) for each in coded]
            space = " " * (side - min(side, larger[0].codes.shape[1]) + 1)
            pictures = [_draw(each, side, depth, scale) for each in larger]
            lines += [space.join(parts).rstrip() for parts in zip(*pictures, strict=True)]
    return "\n".join(lines)


def _fill(text: str, columns: int) -> str:
    return text + " " * (columns - columns_of(text))


def _enlarge(coded: Coded, side: int) -> Coded:
    """The map with each cell as a square of cells, as large as they can be in a picture of `side` by `side`."""
    times = max(1, side // max(coded.codes.shape))
    return replace(coded, codes=coded.codes.repeat(times, axis=0).repeat(times, axis=1))


def _visible_line(text: str) -> str:
    return visible(text).replace("␣", " ")


def _name(tokens: Sequence[str], place: int) -> str:
    return visible(tokens[place]) if tokens else str(place)


def _draw(coded: Coded, width: int, depth: Depth, scale: Scale) -> list[str]:
    """The map in at most `width` columns, each character two cells one above the other."""
    rows, columns = coded.codes.shape
    wide = min(width, columns)
    high = max(1, min(rows, round(rows * wide / columns)))
    codes = reduce(coded, high, wide)
    paint = _painter(coded, depth, scale)
    if not depth:  # a character is one cell, twice as high as wide
        codes = reduce(coded, max(1, (high + 1) // 2), wide)
        return ["".join(paint(code, code, 1) for code in line) for line in codes.tolist()]
    lines = []
    for top in range(0, high, 2):
        pairs = zip(codes[top].tolist(), codes[min(top + 1, high - 1)].tolist(), strict=True)
        lines.append("".join(paint(above, below, 1) for above, below in pairs) + _END)
    return lines


def _painter(coded: Coded, depth: Depth, scale: Scale) -> Any:
    """A function that gives the text for two cells, one above the other, so many columns wide."""
    if not depth:
        return lambda above, _below, width: _shade(coded, above, scale) * width
    tints = tint_codes(coded.levels, is_signed=coded.is_signed, scale=scale, theme="dark")
    colour = _wide_colour if depth == 24 else _nearest_colour

    def paint(above: int, below: int, width: int) -> str:
        if above == below:
            return f"\x1b[48;{colour(tints[above])}m{' ' * width}"
        return f"\x1b[38;{colour(tints[above])};48;{colour(tints[below])}m{'▀' * width}"

    return paint


def _shade(coded: Coded, code: int, scale: Scale) -> str:
    if code == MASKED:
        return "·"
    if code == NOT_FINITE:
        return "!"
    root = abs(code - coded.zero) / (coded.levels - coded.zero)
    share = root * root if scale == "linear" else root
    return (_SHADES if code >= coded.zero else _BELOW)[min(4, int(share * 4.5 + 0.5))]


def _wide_colour(colour: Colour) -> str:
    return "2;{};{};{}".format(*colour)


def _nearest_colour(colour: Colour) -> str:
    """The nearest of the 6 x 6 x 6 colours or 24 greys that terminals with 256 colours have."""
    steps = (0, 95, 135, 175, 215, 255)
    cube = [min(range(6), key=lambda step, part=part: abs(steps[step] - part)) for part in colour]  # type: ignore[misc]
    grey = min(23, max(0, round((sum(colour) / 3 - 8) / 10)))

    def away(other: Sequence[int]) -> int:
        return sum((a - b) ** 2 for a, b in zip(colour, other, strict=True))

    if away([8 + 10 * grey] * 3) < away([steps[step] for step in cube]):
        return f"5;{232 + grey}"
    return f"5;{16 + 36 * cube[0] + 6 * cube[1] + cube[2]}"
