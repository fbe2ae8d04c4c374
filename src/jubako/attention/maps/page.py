"""One HTML page with everything in it: maps, style and script; it asks for nothing, and its policy forbids it to.

The parts are beside this module in `web`: `data.js` says how a packed map is laid out. Numbers of a row's top keys are
stored as they are; the picture is made of codes (`panel`), in as many levels as keep a large page small. Tokens and
titles are somebody else's text: they stand in one JSON text without any `<`, and get into the page as text only.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import zlib
from string import Template

import numpy as np

from jubako._version import __version__
from jubako.attention.maps.drawable import describe_shape, maps_of
from jubako.attention.maps.palette import DECADES, THEMES, palette_of
from jubako.attention.maps.panel import (
    MASKED,
    MOST_LEVELS,
    NOT_FINITE,
    bits_per_cell,
    count_codes,
    encode,
    read_rows,
    reduce,
)
from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.attention.maps.drawable import Drawable
    from jubako.attention.maps.palette import Theme
    from jubako.attention.maps.panel import Coded, Rows

__all__ = ["PAGE_MARK", "format_page"]

PAGE_MARK = b"<!-- jubako: a page of maps -->"
LARGEST_PAGE = 256 << 20  # bytes; what browsers still open in reasonable time
_TOP = 8  # keys of a row whose numbers are stored exactly
_SMALL = 1 << 20  # cells up to which a page takes the bits that it takes
_BITS = 4.0  # that a cell of a larger page may take, or it gets fewer levels: 12 x 512 x 512 stay below 3 MB
_FEWEST_LEVELS = 30
_GAP = "<!-- maps -->"
_PARTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "web")


@record
class _Packed:
    """A run as it stands in the page: what is said of each map, and the elements that hold them."""

    facts: list[dict[str, object]]
    elements: list[bytes]


def format_page(runs: Sequence[tuple[str, Drawable]]) -> list[bytes]:
    """The page, in pieces. `runs` are maps of one shape, each with the word for it in the page ("A", "B").

    InputError: it would be too large; the sentence says how large.
    """
    first = runs[0][1]
    _refuse_too_large(first.weights.shape, first.weights.itemsize, len(runs))
    levels = _choose_levels([run for _, run in runs])
    packed = [_pack_run(run, number, levels) for number, (_, run) in enumerate(runs)]
    about = _describe(runs, levels) | {"maps": [facts for run in packed for facts in run.facts]}
    script = "\n".join(['"use strict";', *map(_read_part, ("data.js", "draw.js", "tiles.js", "page.js"))])
    style = _read_part("page.css")
    page = Template(_read_part("page.html")).substitute(
        title=html.escape(runs[-1][1].title or "Attention"),
        version=__version__,
        script=script,
        script_hash=_digest(script),
        style=style,
        style_hash=_digest(style),
        about=json.dumps(about, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c"),
        maps=_GAP,
    )
    before, _, after = page.partition(_GAP)
    elements = (element for run in packed for element in run.elements)
    return [before.encode("utf-8", "replace"), *elements, after.encode()]


def _refuse_too_large(shape: tuple[int, ...], itemsize: int, count: int) -> None:
    layers, heads, rows, columns = shape
    maps = count * layers * (heads + 1)
    estimate = int(maps * (rows * columns * _BITS / 8 + rows * (_TOP + 1) * (itemsize + 4)) * 4 / 3)
    if estimate > LARGEST_PAGE:
        raise InputError(
            f"a page of {describe_shape(shape)}{f' of {count} runs' if count > 1 else ''} would take about "
            f"{estimate / 1e6:,.0f} MB, more than the {LARGEST_PAGE / 1e6:,.0f} MB that browsers can be given",
            hint="choose layers and heads",
        )


def _choose_levels(runs: Sequence[Drawable]) -> int:
    """In how many levels cells are drawn: as many as there can be, or of a large page as its size allows."""
    places = [(run, layer, head) for run in runs for layer, head in maps_of(run)]
    levels = MOST_LEVELS
    if len(places) * runs[0].weights[0, 0].size <= _SMALL:
        return levels
    coded = (encode(run.map_at(layer, head), run.masked_at(layer, head)) for run, layer, head in places)
    counts = np.array([count_codes(each) for each in coded])  # (maps, 256)
    while levels > _FEWEST_LEVELS and bits_per_cell(counts) > _BITS:
        levels //= 2
        levels -= levels % 2
        counts = counts.reshape(len(counts), -1, 2).sum(axis=2)  # two levels become one
    return levels


def _pack_run(run: Drawable, number: int, levels: int) -> _Packed:
    packed = _Packed([], [])
    thumbnails = []
    side = _thumbnail_side(run)
    for layer, head in maps_of(run):
        weights, masked = run.map_at(layer, head), run.masked_at(layer, head)  # (L, S)
        coded = encode(weights, masked, levels)
        rows = read_rows(weights, masked, _TOP)
        thumbnails.append(reduce(coded, side, side))
        packed.facts.append(
            {
                "largest": coded.largest,
                "signed": coded.is_signed,
                "masked": int(np.count_nonzero(coded.codes == MASKED)),
                "broken": int(np.count_nonzero(coded.codes == NOT_FINITE)),
            }
        )
        packed.elements.append(_element('class="map"', _pack_map(coded, rows)))
    packed.elements.append(_element(f'id="thumbnails-{number}"', np.array(thumbnails).tobytes()))
    return packed


def _pack_map(coded: Coded, rows: Rows) -> bytes:
    place = "<u4" if coded.codes.shape[1] > 0xFFFF else "<u2"
    little = rows.values.dtype.newbyteorder("<")
    with np.errstate(over="ignore"):
        parts = (
            rows.values.astype(little),  # (L, k)
            rows.first.astype(little),  # (L,)
            rows.entropy.astype("<f4"),  # (L,)
            rows.masked.astype("<f4"),  # (L,)
            rows.keys.astype(place),  # (L, k), -1 becomes all bits set
            coded.codes,  # (L, S)
        )
    return b"".join(part.tobytes() for part in parts)


def _element(attribute: str, content: bytes) -> bytes:
    packer = zlib.compressobj(
        9, strategy=zlib.Z_FILTERED
    )  # codes are noise to it, and short repeats cost more than gain
    packed = base64.b64encode(packer.compress(content) + packer.flush())
    return b'<script type="text/plain" %s>%s</script>\n' % (attribute.encode(), packed)


def _thumbnail_side(run: Drawable) -> int:
    layers, heads, *_ = run.weights.shape
    return 64 if layers * heads <= 48 else 32


def _describe(runs: Sequence[tuple[str, Drawable]], levels: int) -> dict[str, object]:
    first = runs[0][1]
    rows, columns = first.weights.shape[2:]
    side = _thumbnail_side(first)
    shape = describe_shape(first.weights.shape)
    return {
        "title": runs[-1][1].title,
        "subtitle": shape.replace(" x ", " × ") + (" · two runs and their difference" if len(runs) > 1 else ""),
        "footer": f"Made by jubako {__version__}. Numbers of the top keys of each row are exact "
        f"({first.weights.dtype}); colours have {levels} steps. Nothing is loaded from anywhere.",
        "layers": first.layers,
        "heads": first.heads,
        "rows": rows,
        "columns": columns,
        "bytes": first.weights.itemsize,
        "top": min(_TOP, columns),
        "levels": levels,
        "decades": DECADES,
        "thumbnail": [min(side, rows), min(side, columns)],
        "palettes": {theme: [_pack_palette(theme, is_signed=way) for way in (False, True)] for theme in THEMES},
        "runs": [
            {"name": name, "title": run.title, "queries": run.queries or None, "keys": run.keys or None}
            for name, run in runs
        ],
    }


def _pack_palette(theme: Theme, *, is_signed: bool) -> str:
    return base64.b64encode(
        bytes(part for colour in palette_of(theme, is_signed=is_signed) for part in colour)
    ).decode()


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _read_part(name: str) -> str:
    with open(os.path.join(_PARTS, name), encoding="utf-8") as file:
        return file.read()
