"""Images (PNG, JPEG, GIF, WebP, BMP, TIFF), compared pixel by pixel as they are decoded. The only module that imports
Pillow.

What counts is what a viewer shows: size, kind of pixels, every frame and how long it is shown, colour profile and
orientation. How the pixels are compressed, a palette's order and other metadata don't. Tolerances are in levels of a
channel: 0 to 255, or 65535 with 16 bits.
"""

from __future__ import annotations

import struct
import warnings
import zlib

import numpy as np
from PIL import Image

from jubako.verify.arrays import compare_arrays
from jubako.verify.findings import Incomparable, Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jubako.verify.content import File
    from jubako.verify.findings import Findings

__all__ = ["compare_images"]

# What Pillow's decoders raise for files that are damaged, one way or another.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_PIXELS = 1 << 28  # of one frame: a gigabyte when it is decoded
_FRAMES = 10_000
_ORIENTATION = 0x0112  # of EXIF
_CHANNELS = ("red", "green", "blue", "alpha")


def compare_images(one: File, other: File, findings: Findings) -> None:
    """Two images. Unreadable for what is none, Incomparable for what is too large to be decoded."""
    with one.open() as published, other.open() as recomputed:
        first, second = _open(published), _open(recomputed)
        with first, second:
            try:
                _compare(first, second, findings)
            except _DAMAGED as error:
                raise Unreadable(f"it is no whole image: {error}") from error


def _open(stream: Any) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are looked at below
            image = Image.open(stream, formats=_FORMATS)
    except _DAMAGED as error:
        raise Unreadable("it is no image") from error
    except Image.DecompressionBombError as error:
        raise Incomparable(f"it is too large to be decoded: {error}") from error
    if image.width * image.height > _PIXELS:
        raise Incomparable(f"it is too large to be decoded: {image.width} x {image.height} pixels")
    return image


def _compare(first: Image.Image, second: Image.Image, findings: Findings) -> None:
    frames = [getattr(image, "n_frames", 1) for image in (first, second)]
    if frames[0] != frames[1]:
        findings.differ("frames", *map(str, frames))
    if first.size != second.size:
        findings.differ("size", *(f"{image.width} x {image.height}" for image in (first, second)))
        return
    for what, ours, theirs in zip(("colour profile", "orientation"), _look(first), _look(second), strict=True):
        if ours != theirs and not findings.ignores(what):
            findings.differ(what, _show(ours), _show(theirs))
    for number in range(min(*frames, _FRAMES)):
        _compare_frame(first, second, number if max(frames) > 1 else None, findings)
    if min(frames) > _FRAMES:
        findings.note(f"the first {_FRAMES:,} frames are compared")


def _compare_frame(first: Image.Image, second: Image.Image, number: int | None, findings: Findings) -> None:
    place = "" if number is None else f"frame {number + 1}, "
    arrays = []
    for image in (first, second):
        if number is not None:
            image.seek(number)
        arrays.append(_decode(image))
    durations = [image.info.get("duration", 0) for image in (first, second)]
    if durations[0] != durations[1] and not findings.ignores("duration"):
        findings.differ(f"{place}duration", *(f"{duration} ms" for duration in durations))
    kinds = [_name_kind(array) for array in arrays]
    if kinds[0] != kinds[1]:
        findings.differ(f"{place}kind of pixels", *kinds)
        return

    def where(index: int) -> str:
        y, x, *channel = np.unravel_index(index, arrays[0].shape)
        return f"{place}pixel {x}, {y}{f', {_CHANNELS[channel[0]]}' if channel else ''}"

    compare_arrays(arrays[0], arrays[1], findings, where)


def _decode(image: Image.Image) -> Any:
    """The pixels of the frame: (height, width) or (height, width, 4 channels)."""
    is_grey = image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16")
    if is_grey and "transparency" not in image.info:
        return np.asarray(image.convert("L") if image.mode == "1" else image)
    return np.asarray(image.convert("RGBA"))


def _name_kind(array: Any) -> str:
    return "colour" if array.ndim == 3 else f"grey, {array.dtype.itemsize * 8} bits"


def _look(image: Image.Image) -> tuple[bytes | int, ...]:
    """The colour profile and the orientation, which a viewer minds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata, which then says nothing
        return image.info.get("icc_profile") or b"", image.getexif().get(_ORIENTATION, 1)


def _show(value: bytes | int) -> str:
    return str(value) if isinstance(value, int) else f"a profile of {len(value)} bytes" if value else ""
