"""What tests of maps share: maps of chosen weights, a browser, and a reader of PNG files that is not ours."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start threads, and other tests fork this process

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from jubako.attention.maps.maps import Maps

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")


def weights_of(*shape: int, seed: int = 1, spread: float = 1.5) -> Any:
    """Weights (..., L, S) float32 whose rows have sum 1."""
    scores = np.random.default_rng(seed).normal(size=shape) * spread
    raised = np.exp(scores)
    return (raised / raised.sum(axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def maps() -> Maps:
    """Two layers of three heads for five tokens; what comes later is masked."""
    return causal_maps()


def causal_maps() -> Maps:
    masked = np.triu(np.ones((5, 5), bool), 1)
    weights = np.where(masked, 0, weights_of(2, 3, 5, 5))
    weights = (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)
    return Maps(weights, ["[CLS]", "the", "cat", "sat", "##s"], title="a cat", masked=masked)


class Watched:
    """A page of a real browser, and what it said and asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: Path, view: str = "") -> Page:
        """Goes to a page on disk, with what the address says of the view, and waits until a map is drawn."""
        self.page.goto("about:blank")  # another fragment alone would not load it again
        self.page.goto(f"file://{path}#{view}")
        self.page.wait_for_selector("html[data-ready]")
        return self.page

    def wait(self) -> None:
        """Waits until the map is drawn that was asked for last."""
        place = self.page.evaluate("placeOf(state.run, state.layer, state.head)")
        self.page.wait_for_selector(f"html[data-ready='{place}']")

    def picture(self, x: int, y: int, width: int, height: int) -> Any:
        """What is on a part of the screen (height, width, 3)."""
        return read_png(self.page.screenshot(clip={"x": x, "y": y, "width": width, "height": height}))

    def colour_at(self, x: int, y: int) -> Any:
        """What is at a place of the screen (3,)."""
        return self.picture(x, y, 1, 1)[0, 0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])  # as root it has none
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def watched(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A page in each colour scheme."""
    yield from _watch(browser, request.param)


@pytest.fixture
def watched_once(browser: Browser) -> Iterator[Watched]:
    yield from _watch(browser, "light")


def _watch(browser: Browser, scheme: Any) -> Iterator[Watched]:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 800}, offline=True)
    context.set_default_timeout(20_000)
    yield Watched(context.new_page())
    context.close()


def read_png(data: bytes) -> Any:
    """The pixels (height, width, 3) of a PNG file of 8 bits: colours with or without alpha, or a palette."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, palette = 8, b"", b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            width, height, depth, colours, *rest = struct.unpack(">IIBBBBB", body)
            assert (depth, rest) == (8, [0, 0, 0])
        elif kind == b"PLTE":
            palette = body
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    size = {2: 3, 6: 4, 3: 1}[colours]
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * size)
    pixels = np.zeros((height + 1, width + 1, size), np.int64)  # with nothing above and to the left
    for row, line in enumerate(lines, start=1):
        _unfilter(pixels, row, line[0], line[1:].reshape(width, size))
    shown = pixels[1:, 1:]
    return np.frombuffer(palette, np.uint8).reshape(-1, 3)[shown[:, :, 0]] if colours == 3 else shown[:, :, :3]


def _unfilter(pixels: Any, row: int, kind: int, line: Any) -> None:
    """RFC 2083, 6: each byte says how far it is from what those to the left, above and above left let expect."""
    if kind == 0:
        pixels[row, 1:] = line
    elif kind == 1:
        pixels[row, 1:] = np.cumsum(line.astype(np.int64), axis=0) % 256
    elif kind == 2:
        pixels[row, 1:] = (line + pixels[row - 1, 1:]) % 256
    else:
        for x, part in enumerate(line, start=1):
            left, above, corner = pixels[row, x - 1], pixels[row - 1, x], pixels[row - 1, x - 1]
            pixels[row, x] = (part + ((left + above) // 2 if kind == 3 else _paeth(left, above, corner))) % 256


def _paeth(left: Any, above: Any, corner: Any) -> Any:
    guess = left + above - corner
    away = [np.abs(guess - each) for each in (left, above, corner)]
    return np.where((away[0] <= away[1]) & (away[0] <= away[2]), left, np.where(away[1] <= away[2], above, corner))
