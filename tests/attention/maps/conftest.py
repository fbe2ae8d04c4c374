"""What tests of maps share: maps of chosen weights, a browser, and a reader of images that is not ours."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start threads, and other tests fork this process

import numpy as np
import pytest
from PIL import Image
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
    """The pixels (height, width, 3) of a PNG file."""
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        return np.asarray(image.convert("RGB")).astype(np.int64)
