"""Images: what a viewer shows counts, how it is stored does not."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from jubako.verify import Tolerance

if TYPE_CHECKING:
    from tests.verify.conftest import Compare

COLOURS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3) * 3
GREY_16 = (np.arange(20, dtype=np.uint16).reshape(4, 5) + 1) * 3000


def saved(pixels: Any, format_: str = "PNG", **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def changed(pixels: Any, place: tuple[int, ...], by: int) -> Any:
    copy = pixels.copy()
    copy[place] += by
    return copy


def animated(durations: list[int], value: int = 9) -> bytes:
    frames = [Image.new("L", (3, 2), shade) for shade in (0, 100, value)]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=durations)


def test_same_pixels_stored_in_another_way_are_the_same(compared: Compare) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", "another")
    one = saved(COLOURS, compress_level=0)
    for other in (saved(COLOURS, compress_level=9), saved(COLOURS, pnginfo=text), saved(COLOURS, dpi=(300, 300))):
        found = compared("map.png", one, other)
        assert (found.verdict, found.how, found.notes) == ("same", "image", ("the same contents in other bytes",))


def test_palette_and_direct_colours_that_look_the_same_are_the_same(compared: Compare) -> None:
    pixels = np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8)
    indexed = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    indexed.putpalette([255, 0, 0, 0, 0, 255])
    assert compared("a.png", saved(pixels), saved(indexed)).verdict == "same"


def test_first_pixel_that_differs_is_named_with_its_channel_and_all_are_counted(compared: Compare) -> None:
    other = changed(changed(COLOURS, (1, 2, 1), 1), (3, 4, 0), 2)
    found = compared("map.png", saved(COLOURS), saved(other))
    assert found.first is not None
    assert found.first.where == "pixel 2, 1, green"
    assert (found.first.published, found.first.recomputed) == (str(COLOURS[1, 2, 1]), str(COLOURS[1, 2, 1] + 1))
    assert found.differing == 2


def test_tolerance_is_in_levels_of_a_channel(compared: Compare) -> None:
    other = changed(COLOURS, (1, 2, 1), 2)
    near = compared("map.png", saved(COLOURS), saved(other), tolerance=Tolerance(absolute=2))
    far = compared("map.png", saved(COLOURS), saved(other), tolerance=Tolerance(absolute=1))
    assert (near.verdict, near.within, far.verdict) == ("within", 1, "different")
    assert near.largest is not None
    assert near.largest.where == "pixel 2, 1, green"


def test_sixteen_bits_are_compared_as_such(compared: Compare) -> None:
    found = compared("depth.png", saved(GREY_16), saved(changed(GREY_16, (0, 3), 1)))
    assert found.first is not None
    assert (found.first.where, found.first.published) == ("pixel 3, 0", "12000")


@pytest.mark.parametrize(
    ("other", "where"),
    [
        (saved(COLOURS[:3]), "size"),
        (saved(COLOURS[:, :, 0].copy()), "kind of pixels"),
        (saved(COLOURS, icc_profile=b"x" * 200), "colour profile"),
    ],
)
def test_what_a_viewer_minds_is_told(compared: Compare, other: bytes, where: str) -> None:
    found = compared("map.png", saved(COLOURS), other)
    assert found.first is not None
    assert found.first.where == where


def test_orientation_of_a_photograph_counts_and_can_be_ignored(compared: Compare) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    one, other = saved(COLOURS, "JPEG"), saved(COLOURS, "JPEG", exif=turned)
    found = compared("photo.jpg", one, other)
    assert found.first is not None
    assert (found.first.where, found.first.published, found.first.recomputed) == ("orientation", "1", "6")
    assert compared("photo.jpg", one, other, ignore=["orientation"]).verdict == "same"


def test_every_frame_is_compared_and_how_long_it_is_shown(compared: Compare) -> None:
    one = animated([100, 100, 100])
    found = compared("film.gif", one, animated([100, 100, 100], value=77))
    assert found.first is not None
    assert found.first.where.startswith("frame 3, pixel 0, 0")
    slower = compared("film.gif", one, animated([100, 200, 100]))
    assert slower.first is not None
    assert (slower.first.where, slower.first.recomputed) == ("frame 2, duration", "200 ms")
    shorter = compared("film.gif", one, saved(Image.new("L", (3, 2), 0), "GIF"))
    assert shorter.first is not None
    assert (shorter.first.where, shorter.first.published, shorter.first.recomputed) == ("frames", "3", "1")


@pytest.mark.parametrize("content", [b"no image", saved(COLOURS)[:48], b""])
def test_what_is_no_image_is_compared_as_bytes_and_said_so(compared: Compare, content: bytes) -> None:
    found = compared("map.png", saved(COLOURS), content)
    assert (found.verdict, found.reason) == ("different", "")
    assert found.how in ("bytes", "text")
    assert any("image" in note for note in found.notes)


def test_image_too_large_to_be_decoded_is_not_compared(compared: Compare) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    found = compared("map.png", saved(COLOURS), bomb)
    assert found.verdict == "cannot"
    assert "too large to be decoded" in found.reason
