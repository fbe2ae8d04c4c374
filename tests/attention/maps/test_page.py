"""The page as a text: what is in it, how large it is, what is refused. How it looks is in `test_browser.py`."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jubako.attention import Maps, show
from jubako.attention.maps.page import format_page
from jubako.attention.maps.palette import THEMES, palette_of
from jubako.errors import HostError, InputError

from .conftest import weights_of


def page_of(maps: Maps) -> str:
    return b"".join(format_page([("maps", maps)])).decode()


def about_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="about">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_page_has_no_address_to_load_from_and_forbids_loading(maps: Maps) -> None:
    page = page_of(maps)
    assert re.findall(r"(?:src|href)=\"?([^\"> ]*)", page.replace("data:image/svg+xml", "data:")) == [
        match
        for match in re.findall(r"(?:src|href)=\"?([^\"> ]*)", page.replace("data:image/svg+xml", "data:"))
        if match.startswith(("data:", "#"))
    ]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]
    for kind, tag in (("script", "script"), ("style", "style")):
        text = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[-1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy[1]


def test_texts_of_others_stand_in_the_page_without_a_mark_that_could_end_them(maps: Maps) -> None:
    evil = "</script><!--<script>\u2028"
    page = page_of(Maps(maps.weights, [evil] * 5, title=evil, layers=[evil] * 2))
    assert about_of(page)["runs"][0]["queries"] == [evil] * 5
    assert page.count("</script>") == page.count("<script") == page_of(maps).count("</script>")
    assert "<title>&lt;/script&gt;" in page


def test_large_page_has_as_many_levels_as_its_size_allows() -> None:
    sizes, levels = [], []
    for spread in (0.4, 4.0):  # nothing to see, and much
        page = b"".join(format_page([("maps", Maps(weights_of(1, 12, 512, 512, spread=spread)))]))
        sizes.append(len(page))
        levels.append(about_of(page.decode())["levels"])
    assert max(sizes) < 3_000_000
    assert levels == sorted(levels)
    assert levels[-1] == 252
    assert about_of(page_of(Maps(weights_of(1, 12, 64, 64, spread=0.4))))["levels"] == 252


def test_page_that_would_be_too_large_is_refused_with_its_size_before_it_is_made() -> None:
    weights = np.broadcast_to(np.float32(0.5), (24, 16, 2048, 2048))  # takes no memory
    with pytest.raises(InputError) as caught:
        format_page([("maps", Maps(weights))])
    assert str(caught.value) == (
        "a page of 24 layers x 16 heads x 2048 queries x 2048 keys would take about 1,221 MB, more than the 268 MB "
        "that browsers can be given"
    )
    assert caught.value.hint == "choose layers and heads"


def test_page_replaces_a_page_and_nothing_else(tmp_path: Path, maps: Maps) -> None:
    path = tmp_path / "page.html"
    assert show(maps, path) == path.stat().st_size
    show(maps.select([0]), path)
    assert about_of(path.read_text())["layers"] == ["0"]
    (tmp_path / "link.html").symlink_to("page.html")
    show(maps.select([1]), tmp_path / "link.html")
    assert about_of(path.read_text())["layers"] == ["1"]
    os.unlink(tmp_path / "link.html")
    path.write_text("<!doctype html>mine")
    with pytest.raises(InputError, match=r"page\.html is there already and no page of maps"):
        show(maps, path)
    assert path.read_text() == "<!doctype html>mine"
    with pytest.raises(InputError, match="/dev/null is no file that a page of maps could replace"):
        show(maps, "/dev/null")
    with pytest.raises(HostError, match=r"none/page\.html cannot be written: No such file or directory"):
        show(maps, tmp_path / "none/page.html")
    assert os.listdir(tmp_path) == ["page.html"]


def test_lightness_alone_tells_more_from_less() -> None:
    for theme in THEMES:
        one_way = [_luminance(colour) for colour in palette_of(theme, is_signed=False)[:254]]
        assert one_way == sorted(one_way, reverse=theme == "light")
        two_ways = [_luminance(colour) for colour in palette_of(theme, is_signed=True)[:254]]
        assert two_ways[127:] == sorted(two_ways[127:], reverse=theme == "light")
        assert two_ways[:127] == sorted(two_ways[:127], reverse=theme == "dark")


def _luminance(colour: tuple[int, int, int]) -> float:
    """How light a colour is (Rec. 709), in steps that rounding to bytes can't turn around."""
    red, green, blue = ((part / 255) ** 2.2 for part in colour)
    return round(0.2126 * red + 0.7152 * green + 0.0722 * blue, 2)
