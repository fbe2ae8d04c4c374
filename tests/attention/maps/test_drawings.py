"""Images, figures, text for terminals, and what a notebook shows: read back by readers that are not ours."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from jubako.attention import Maps
from jubako.attention.maps.notebook import LARGEST_FRAME, format_frame
from jubako.attention.maps.palette import SCALES, THEMES, Scale, Theme, tint_codes
from jubako.attention.maps.panel import encode, reduce
from jubako.attention.maps.tokens import columns_of, cut, visible
from jubako.errors import InputError

from .conftest import Watched, causal_maps, read_png, weights_of

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("head", [0, None])
def test_png_has_a_square_of_the_right_colour_for_each_cell(theme: Theme, scale: Scale, head: int | None) -> None:
    maps = causal_maps()
    pixels = read_png(maps.png(1, head, scale=scale, theme=theme))
    assert pixels.shape == (515, 515, 3)
    coded = encode(maps.map_at(1, head), maps.masked_at(1, head))
    tints = np.array(tint_codes(coded.levels, is_signed=False, scale=scale, theme=theme))
    assert np.array_equal(pixels, tints[coded.codes].repeat(103, axis=0).repeat(103, axis=1))


def test_png_of_a_large_map_has_a_pixel_for_each_cell() -> None:
    assert read_png(Maps(weights_of(600, 700)).png(0, 0)).shape == (600, 700, 3)


def cells_of(svg: str) -> dict[tuple[int, int], str]:
    """The colours of the cells of a figure, by row and column."""
    found = {}
    for path in ET.fromstring(svg).iter(f"{SVG}path"):
        for x, y, width, back in re.findall(r"M(\d+) (\d+)h(\d+)v1h(-\d+)z", path.attrib["d"]):
            assert int(width) == -int(back)
            for column in range(int(x), int(x) + int(width)):
                assert (int(y), column) not in found
                found[int(y), column] = path.attrib["fill"]
    return found


def texts_of(svg: str) -> list[str]:
    return [text.text or "" for text in ET.fromstring(svg).iter(f"{SVG}text")]


def test_svg_has_each_cell_once_and_in_its_colour(maps: Maps) -> None:
    coded = encode(maps.weights[0, 1], maps.masked_at(0, 1))
    tints = tint_codes(coded.levels, is_signed=False, scale="sqrt", theme="dark")
    wanted = {place: "#{:02x}{:02x}{:02x}".format(*tints[code]) for place, code in np.ndenumerate(coded.codes)}
    assert cells_of(maps.svg(0, 1, theme="dark")) == wanted


def test_svg_names_rows_columns_and_the_scale(maps: Maps) -> None:
    texts = texts_of(maps.svg(0, 1))
    assert texts[0] == "a cat · layer 0, head 1"
    assert texts[1:6] == texts[6:11] == list(maps.queries)
    largest = maps.weights[0, 1].max()
    assert texts[11:] == ["0", f"{largest / 4:.3g}", f"{largest:.3g}", "masked"]
    signed = texts_of(Maps([[-0.5, 0.25], [np.nan, 0]]).svg(0, scale="linear"))
    assert signed == ["layer 0, mean of heads", "0", "1", "0", "1", "-0.5", "0", "+0.5", "not a number"]
    assert texts_of(Maps([[0.5, 0.25]]).svg(0, scale="log"))[-3:] == ["≤5e-05", "0.005", "0.5"]


def test_svg_of_hostile_tokens_is_well_formed_and_they_are_text() -> None:
    tokens = ["<script>alert(1)</script>", "\0\ud800\ufffe", "]]>&amp;\"'", "\u202e", "日本"]
    svg = Maps(weights_of(5, 5), tokens, title="</title>\x1b<b>").svg(0)
    assert texts_of(svg)[:6] == [
        "</title>␛<b> · layer 0, mean of heads",
        "<script>alert(1)</scrip…",
        "␀\\u{d800}\\u{fffe}",
        "]]>&amp;\"'",
        "\\u{202e}",
        "日本",
    ]
    assert "<script" not in svg


def test_svg_of_too_many_cells_is_refused() -> None:
    assert len(cells_of(Maps(weights_of(256, 3)).svg(0))) == 256 * 3
    with pytest.raises(InputError, match="a map of 257 x 3 cells is too large for SVG, which has up to 256 x 256"):
        Maps(weights_of(257, 3)).svg(0)


@pytest.mark.parametrize("draw", ["png", "svg", "text"])
def test_place_that_is_not_there_is_refused(draw: str, maps: Maps) -> None:
    with pytest.raises(InputError, match="there is no layer 2: there are 2, from 0 on"):
        getattr(maps, draw)(2)
    with pytest.raises(InputError, match="there is no head 3: there are 3, from 0 on"):
        getattr(maps, draw)(0, 3)


def test_text_has_a_line_for_each_row_with_where_it_looks_most() -> None:
    weights = np.array([[0.875, 0.125, 0], [0.25, 0.25, 0.5], [0, 0.0625, np.nan]], np.float32)
    masked = np.array([[False, False, True], [False, False, False], [False, False, False]])
    assert Maps(weights, ["a", "bb", "\x1b[1m"], masked=masked).text(0, 0).split("\n") == [
        "layer 0, head 0: largest 0.875",
        "             a ██▒▒··  a 0.875",
        "            bb ▒▒▒▒▓▓  ␛[1m 0.5",
        "          ␛[1m   ░░!!  bb 0.0625",
    ]
    assert Maps([[0.5, -0.5]]).text(0).split("\n")[1] == "             0 ██●●  0 0.5"


def pixels_of(text: str) -> list[list[tuple[str, str]]]:
    """What a terminal shows of half blocks: for each line the colours above and below of each character."""
    shown = []
    for line in text.split("\n"):
        assert line.endswith("\x1b[0m")
        cells = re.findall(r"\x1b\[(?:38;(2;\d+;\d+;\d+|5;\d+);)?48;([\d;]+)m([ ▀]+)", line)
        shown.append([(above or below, below) for above, below, drawn in cells for _ in drawn])
    return shown


def test_colours_of_half_blocks_are_those_of_the_cells() -> None:
    weights = weights_of(70, 100)
    text = Maps(weights).text(0, 0, width=50, depth=24).partition("\n")[2]
    coded = encode(weights, None)
    codes = reduce(coded, 35, 50)
    tints = tint_codes(coded.levels, is_signed=False, scale="sqrt", theme="dark")

    def colour(code: int) -> str:
        return "2;{};{};{}".format(*tints[code])

    wanted = [
        [(colour(codes[top, x]), colour(codes[min(top + 1, 34), x])) for x in range(50)] for top in range(0, 35, 2)
    ]
    assert pixels_of(text) == wanted


def test_terminals_of_256_colours_get_the_nearest() -> None:
    steps = [0, 95, 135, 175, 215, 255]
    table = [(r, g, b) for r in steps for g in steps for b in steps] + [(8 + 10 * i,) * 3 for i in range(24)]
    weights = np.linspace(0, 1, 120, dtype=np.float32).reshape(1, 120)
    coded = encode(weights, None)
    tints = tint_codes(coded.levels, is_signed=False, scale="sqrt", theme="dark")
    (line,) = pixels_of(Maps(weights).text(0, 0, width=120, depth=8).partition("\n")[2])
    for (above, _), code in zip(line, coded.codes[0], strict=True):
        number = int(above.removeprefix("5;")) - 16

        def away(colour: tuple[int, ...], code: int = code) -> int:
            return sum((a - b) ** 2 for a, b in zip(colour, tints[code], strict=True))

        assert away(table[number]) == min(map(away, table))


@pytest.mark.parametrize("width", [1, 20, 80, 200])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 5), (1, 12, 90, 90), (1, 2, 3, 500)])
def test_text_fits_the_width(shape: tuple[int, ...], width: int) -> None:
    maps = Maps(weights_of(*shape), ["日本語日本語日本語"] * shape[2])
    for text in (maps.text(width=width), maps.text(0, 0, width=width)):
        lines = text.split("\n")
        assert max(map(columns_of, [line for line in lines if not line.startswith("layer")])) <= max(width, 8)


def test_overview_has_every_head_and_the_mean_of_each_layer(maps: Maps) -> None:
    lines = maps.text(width=40).split("\n")
    assert lines[0] == "layer 0"
    assert lines[1].split() == ["0", "1", "2", "mean"]
    assert len(lines[1]) == lines[1].index("mean") + 4 == 30 + 4  # four of nine columns each, and one between
    assert lines[len(lines) // 2] == "layer 1"
    assert len(maps.text(width=17).split("\n")) == 2 * (1 + 2 * (1 + 3))  # two heads beside one another


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("", "∅"),
        ("a", "a"),
        ("a b", "a␣b"),
        ("\t\n", "␉⏎"),
        ("\u200b", "\\u{200b}"),
        ("é日", "é日"),
        ("\x7f", "\\u{7f}"),
    ],
)
def test_token_is_shown_so_that_all_of_it_can_be_seen(token: str, shown: str) -> None:
    assert visible(token) == shown


def test_text_is_cut_by_the_columns_that_it_takes() -> None:
    assert (cut("abc", 3), cut("abcd", 3), cut("日本", 3), cut("e\u0301e\u0301", 2)) == (
        "abc",
        "ab…",
        "日…",
        "e\u0301e\u0301",
    )


def test_notebook_shows_the_page_in_a_frame_that_reaches_nothing(watched_once: Watched, maps: Maps) -> None:
    watched_once.page.set_content(f"<title>notebook</title>{maps._repr_html_()}")
    frame = watched_once.page.frame_locator("iframe")
    frame.locator("html[data-ready]").wait_for()
    assert frame.locator("h1").inner_text() == "a cat"
    frame.locator("#viewport").press("l")
    frame.locator("html[data-ready='0']").wait_for()
    assert frame.locator("#keys-of-row td.number").first.inner_text() == "1"
    assert watched_once.page.locator("iframe").get_attribute("sandbox") == "allow-scripts"
    assert (watched_once.said, watched_once.asked) == ([], [])


def test_page_that_a_notebook_could_not_keep_is_a_sentence() -> None:
    assert format_frame(bytes(LARGEST_FRAME + 1), "x").startswith("<p>A page of 34 MB is too large for a notebook")
