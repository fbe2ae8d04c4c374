"""The page in a real browser: what is drawn, what is written, which keys work, and that nothing is asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Error, Page

from jubako.attention import Maps, show
from jubako.attention.maps.palette import THEMES, Theme, palette_of, tint_codes
from jubako.attention.maps.panel import MASKED, NOT_FINITE, encode

from .conftest import Watched, causal_maps, weights_of


def table_of(page: Page) -> list[tuple[int, str, str]]:
    """The top keys of the chosen row: place, token, and the number as it is written."""
    rows = page.locator("#keys-of-row tr").all()
    cells = [[part.inner_text() for part in row.locator(".place, .token, td.number").all()] for row in rows]
    return [(int(place), *rest) if len(rest) == 2 else (int(place), "", *rest) for place, *rest in cells]


def middle_of(page: Page, row: int, column: int) -> tuple[int, int]:
    """Where a cell is on the screen."""
    x, y = page.evaluate(
        "([row, column]) => { const box = canvas.getBoundingClientRect();"
        " return [box.left + view.left(column) + view.cell / 2, box.top + view.top(row) + view.cell / 2]; }",
        [row, column],
    )
    return int(x), int(y)


def themes_palette(watched: Watched) -> Theme:
    chosen = watched.page.evaluate("document.documentElement.dataset.theme")
    return next(theme for theme in THEMES if theme == chosen)


def test_page_draws_every_cell_in_the_colour_of_its_weight(watched: Watched, tmp_path: Path, maps: Maps) -> None:
    show(maps, tmp_path / "page.html")
    page = watched.open(tmp_path / "page.html", "layer=1&head=2&row=4")
    theme = themes_palette(watched)
    coded = encode(maps.weights[1, 2], maps.masked_at(1, 2))
    tints = tint_codes(coded.levels, is_signed=False, scale="sqrt", theme=theme)
    for row in range(4):  # the fifth is chosen, and has a frame
        for column in range(5):
            colour = watched.colour_at(*middle_of(page, row, column))
            assert np.abs(colour - tints[coded.codes[row, column]]).max() <= 1, (row, column)
    assert (watched.said, watched.asked) == ([], [f"file://{tmp_path}/page.html"])


def test_page_is_dark_or_light_as_the_system_is_until_the_reader_chooses(
    watched: Watched, tmp_path: Path, maps: Maps
) -> None:
    show(maps, tmp_path / "page.html")
    page = watched.open(tmp_path / "page.html")
    before = themes_palette(watched)
    ground = {theme: np.array(palette_of(theme, is_signed=False)[0]) for theme in THEMES}
    assert np.abs(watched.colour_at(1270, 790) - ground[before]).max() <= 1
    page.keyboard.press("t")
    after = themes_palette(watched)
    assert {before, after} == {"light", "dark"}
    assert np.abs(watched.colour_at(1270, 790) - ground[after]).max() <= 1
    page.get_by_role("button", name="Dark or light").click()
    assert themes_palette(watched) == before


def test_thumbnails_of_all_maps_are_drawn(watched_once: Watched, tmp_path: Path, maps: Maps) -> None:
    show(maps, tmp_path / "page.html")
    page = watched_once.open(tmp_path / "page.html")
    assert page.locator(".tile").count() == 2 * 4
    page.wait_for_selector(".tile canvas[width='5']")
    for tile in page.locator(".tile canvas").all():
        box = tile.bounding_box()
        assert box is not None
        part = watched_once.picture(int(box["x"]) + 2, int(box["y"]) + 2, 30, 30)
        assert len(np.unique(part.reshape(-1, 3), axis=0)) > 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_of_the_top_keys_are_exact(watched_once: Watched, tmp_path: Path, dtype: Any) -> None:
    weights = weights_of(1, 2, 7, 30, spread=4).astype(dtype)
    show(Maps(weights), tmp_path / "page.html")
    for row in (0, 3, 6):
        page = watched_once.open(tmp_path / "page.html", f"head=1&row={row}")
        wanted = np.argsort(-weights[0, 1, row], kind="stable")[:8]
        found = table_of(page)
        assert [place for place, *_ in found] == list(wanted)
        assert [dtype(number) for *_, number in found] == list(weights[0, 1, row, wanted])
    mean = weights[0].mean(axis=0, dtype=np.float64).astype(dtype)
    page = watched_once.open(tmp_path / "page.html", "head=mean&row=2")
    assert [dtype(number) for *_, number in table_of(page)] == list(np.sort(mean[2])[::-1][:8])


def test_colours_of_all_maps_count_from_one_largest_cell_if_asked(watched_once: Watched, tmp_path: Path) -> None:
    weights = np.array([[[1.0, 0.0]], [[0.25, 0.0]]], np.float32)
    show(Maps(weights), tmp_path / "page.html")
    page = watched_once.open(tmp_path / "page.html", "head=1&scale=linear&row=0")
    assert page.locator("#ticks span").all_inner_texts() == ["0", "0.063", "0.13", "0.19", "0.25"]
    x, y = middle_of(page, 0, 0)
    palette = palette_of("light", is_signed=False)
    assert tuple(watched_once.colour_at(x, y)) == palette[253]
    page.get_by_label("one scale for all").check()
    assert page.locator("#ticks span").all_inner_texts() == ["0", "0.25", "0.5", "0.75", "1"]
    assert tuple(watched_once.colour_at(x, y)) == palette[round(253 / 4)]


def test_row_says_its_entropy_and_its_first_key(watched_once: Watched, tmp_path: Path) -> None:
    weights = np.array([[0.5, 0.25, 0.25, 0], [0, 1, 0, 0]], np.float32)
    show(Maps(weights), tmp_path / "page.html")
    page = watched_once.open(tmp_path / "page.html", "head=0&row=0")
    assert page.inner_text("#row-facts") == "Entropy 1.5 bits, as spread over 2.8 keys; first key 0.5"
    page.keyboard.press("j")
    assert page.inner_text("#row-facts") == "Entropy 0 bits, as spread over 1 key; first key 0"


def test_masked_cells_and_no_numbers_have_colours_of_their_own(watched: Watched, tmp_path: Path) -> None:
    maps = causal_maps()
    weights = maps.weights.copy()
    weights[0, 0, 1, 0] = np.nan
    weights[0, 0, 2, 4] = 0.25  # on a masked key
    show(Maps(weights, maps.queries, masked=maps.masked), tmp_path / "page.html")
    page = watched.open(tmp_path / "page.html", "layer=0&head=0&row=3")
    palette = palette_of(themes_palette(watched), is_signed=False)
    for (row, column), place in (((0, 4), MASKED), ((1, 0), NOT_FINITE)):
        assert tuple(watched.colour_at(*middle_of(page, row, column))) == palette[place]
    assert "masked: 10 cells" in page.inner_text("#marks")
    assert page.inner_text("#marks").endswith("not a number: 1 cell")
    page.keyboard.press("k")
    assert "On masked keys: 0.25." in page.inner_text("#row-facts")
    page.keyboard.press("k")
    assert page.inner_text("#row-facts") == "Not all of the row are numbers."


def test_difference_of_two_runs_is_a_third(watched: Watched, tmp_path: Path) -> None:
    one, other = (Maps(weights_of(1, 2, 6, 6, seed=seed), list("abcdef"), title=f"run {seed}") for seed in (1, 2))
    show(one, tmp_path / "page.html", other=other)
    page = watched.open(tmp_path / "page.html", "head=0&row=4")
    assert page.locator("#runs span").all_inner_texts() == ["A", "B", "B − A"]
    difference = (other.weights[0, 0, 4].astype(np.float64) - one.weights[0, 0, 4]).astype(np.float32)
    found = table_of(page)
    assert [(place, np.float32(number)) for place, _, number in found] == [
        (key, difference[key]) for key in np.argsort(-np.abs(difference), kind="stable")
    ]
    cells = other.weights[0, 0].astype(np.float64) - one.weights[0, 0]
    for cell, strong, weak in ((cells.argmax(), 0, 2), (cells.argmin(), 2, 0)):  # red above zero, blue below
        colour = watched.colour_at(*middle_of(page, *divmod(int(cell), 6)))
        assert colour[strong] > colour[weak]
    page.keyboard.press("r")
    watched.wait()
    assert np.float32(table_of(page)[0][2]) == one.weights[0, 0, 4].max()
    page.keyboard.press("r")
    watched.wait()
    assert np.float32(table_of(page)[0][2]) == other.weights[0, 0, 4].max()
    assert (watched.said, len(watched.asked)) == ([], 1)


def test_keys_that_the_page_names_do_what_it_says(watched_once: Watched, tmp_path: Path) -> None:
    show(Maps(weights_of(3, 2, 20, 20), [f"t{i}" for i in range(20)]), tmp_path / "page.html")
    page = watched_once.open(tmp_path / "page.html", "layer=0&head=0&row=0")

    def after(*keys: str) -> dict[str, str]:
        for key in keys:
            page.keyboard.press(key)
        watched_once.wait()
        return dict(re.findall(r"(\w+)=(\w+)", page.url.partition("#")[2]))

    assert after("l")["head"] == "1"
    assert after("l")["head"] == "mean"
    assert after("l")["head"] == "0"
    assert after("h", "h")["head"] == "1"
    assert after("m")["head"] == "mean"
    assert after("m")["head"] == "1"
    assert after("n")["layer"] == "1"
    assert after("p", "p")["layer"] == "2"
    assert after("j", "j", "k")["row"] == "1"
    assert [after("c")["scale"] for _ in range(3)] == ["log", "linear", "sqrt"]
    assert after("s")["shared"] == "1"
    assert page.is_checked("#shared")
    page.focus("#viewport")
    assert after("ArrowDown", "ArrowRight", "ArrowRight")["row"] == "2"
    assert page.inner_text("#pointed").startswith("2 “t2” → 2 “t2”")
    assert after("Shift+ArrowDown")["row"] == "12"
    assert after("PageUp")["row"] == "10"
    assert after("End", "Enter")["row"] == "19"
    assert page.inner_text("#pointed").startswith("19 “t19” → 19 “t19”")
    after("Home")
    assert "19 “t19” → 0 “t0”" in page.inner_text("#status")  # what a screen reader says
    assert "layer 2 · head 1, row 19 “t19”" in page.inner_text("#status")
    cell = page.evaluate("view.cell")
    after("+")
    assert page.evaluate("view.cell") > cell
    after("-", "-")
    assert page.evaluate("view.cell") < cell
    after("0")
    assert page.evaluate("view.cell") == cell
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()
    page.locator(".tile[aria-pressed=true]").focus()
    assert after("ArrowLeft", "ArrowUp")["layer"] == "1"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "layer 1 · head 0"
    assert watched_once.said == []


FOCUSED = """(() => {
    const at = document.activeElement;
    const style = getComputedStyle(at.matches(".choice input") ? at.nextElementSibling : at);
    return [at.id || at.className || at.name, style.outlineStyle, parseFloat(style.outlineWidth)];
})()"""


def test_focus_is_visible_wherever_it_goes(watched_once: Watched, tmp_path: Path, maps: Maps) -> None:
    show(maps, tmp_path / "page.html", other=maps)
    page = watched_once.open(tmp_path / "page.html")
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(FOCUSED))
    names = [name for name, *_ in seen]
    assert names[:6] == ["skip", "run", "scale", "shared", "theme", "help"]
    assert {"tile", "viewport", "smaller", "fit", "larger"} <= set(names)
    assert all(style == "solid" and width >= 2 for name, style, width in seen if name), seen


def test_mouse_points_at_cells_and_chooses_rows(watched_once: Watched, tmp_path: Path, maps: Maps) -> None:
    show(maps, tmp_path / "page.html")
    page = watched_once.open(tmp_path / "page.html", "layer=0&head=1&row=0")
    page.mouse.move(*middle_of(page, 3, 1))
    assert page.inner_text("#pointed") == f"3 “sat” → 1 “the” {maps.weights[0, 1, 3, 1]!s}"
    page.mouse.move(*middle_of(page, 1, 3))
    assert page.inner_text("#pointed") == "1 “the” → 3 “sat” masked"
    page.mouse.click(*middle_of(page, 4, 2))
    assert page.inner_text("#row-name") == "Row 4 “##s”: where it looks"
    page.get_by_role("button", name="cat", exact=True).click()  # in the text
    assert page.inner_text("#row-name") == "Row 2 “cat”: where it looks"


HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<!--<script>",
    "\u202eevil",
    "",
    " ",
    "\n\0",
    "\ud800",
    "日本",
    "'\"&<b>",
]


def test_hostile_tokens_and_titles_are_text_only(watched_once: Watched, tmp_path: Path) -> None:
    title = "</title><script>alert(3)</script><h1 id=title>\ud800"
    weights = weights_of(2, 1, 10, 10)
    show(
        Maps(weights, HOSTILE, layers=["<img src=x onerror=alert(4)>", "{{7*7}}"], title=title), tmp_path / "page.html"
    )
    watched_once.page.on("dialog", lambda dialog: watched_once.said.append(f"dialog {dialog.message}"))
    page = watched_once.open(tmp_path / "page.html", "head=0&row=0")
    assert page.title().startswith("</title><script>alert(3)</script>")
    assert page.inner_text("h1").startswith("</title><script>alert(3)</script>")
    assert page.inner_text("#map-name").lower() == "<img␣src=x␣onerror=alert(4)> · head 0"
    shown = [button.inner_text() for button in page.locator("#text button").all()]
    assert shown == [*HOSTILE[:3], "\\u{202e}evil", "∅", "␣", "⏎␀", "\\u{d800}", "日本", "'\"&<b>"]
    assert page.locator("img").count() == 0
    assert (watched_once.said, len(watched_once.asked)) == ([], 1)


def test_policy_lets_nothing_in_or_out(watched_once: Watched, tmp_path: Path, maps: Maps) -> None:
    show(maps, tmp_path / "page.html")
    page = watched_once.open(tmp_path / "page.html")
    with pytest.raises(Error, match="Failed to fetch"):
        page.evaluate("fetch('http://127.0.0.1:9/')")
    page.evaluate("document.head.append(element('script', { textContent: 'document.title = 1' }))")
    page.evaluate("document.body.append(element('img', { src: 'http://127.0.0.1:9/' }))")
    page.evaluate("document.body.setAttribute('onclick', 'document.title = 2'); document.body.click()")
    assert page.title() == "a cat"
    refused = [text for text in watched_once.said if "Content Security Policy" in text]
    assert len(refused) >= 3


def test_twelve_maps_of_512_tokens_are_one_small_page(watched_once: Watched, tmp_path: Path) -> None:
    weights = weights_of(1, 12, 512, 512, spread=2.0)
    assert show(Maps(weights, [f"token{i}" for i in range(512)]), tmp_path / "page.html") < 3_000_000
    page = watched_once.open(tmp_path / "page.html", "head=7&row=300&scale=log")
    found = table_of(page)
    wanted = np.argsort(-weights[0, 7, 300], kind="stable")[:8]
    assert [(place, token, np.float32(number)) for place, token, number in found] == [
        (key, f"token{key}", weights[0, 7, 300, key]) for key in wanted
    ]
    assert len(np.unique(watched_once.picture(*middle_of(page, 10, 10), 100, 100).reshape(-1, 3), axis=0)) > 20
    page.keyboard.press("+")
    page.focus("#viewport")
    page.keyboard.press("End")
    assert page.evaluate("document.getElementById('viewport').scrollLeft") > 0
    assert page.inner_text("#pointed").startswith("300 “token300” → 511 “token511”")
    assert (watched_once.said, len(watched_once.asked)) == ([], 1)


STRONGEST = """(() => {
    const line = view.picture.getContext("2d").getImageData(0, 0, view.shape[1], 1);
    return new Uint32Array(line.data.buffer).filter((colour) => colour === view.tints[about.levels]).length;
})()"""


def test_map_that_no_screen_has_pixels_for_is_shown_by_the_largest_of_its_blocks(
    watched_once: Watched, tmp_path: Path
) -> None:
    weights = np.full((1, 1, 2, 70_000), 1e-6, np.float32)
    weights[0, 0, 0, 69_990] = 0.5
    show(Maps(weights), tmp_path / "page.html")
    page = watched_once.open(tmp_path / "page.html", "head=0&row=1&scale=linear")
    assert page.evaluate(STRONGEST) == 1
    page.keyboard.press("k")
    assert table_of(page)[0] == (69_990, "", "0.5")
    assert watched_once.said == []
