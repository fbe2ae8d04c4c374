"""PNG files with the standard library: one byte a cell, the colours in a palette (RFC 2083)."""

from __future__ import annotations

import struct
import zlib

import numpy as np

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from jubako.attention.maps.palette import Colour

__all__ = ["PNG_MARK", "draw_png"]

PNG_MARK = b"Software\0jubako"


def draw_png(codes: Any, tints: Sequence[Colour], cell: int) -> bytes:
    """A picture of codes (L, S) uint8, each a square of `cell` pixels in the colour that `tints` has for it."""
    pixels = codes.repeat(cell, axis=0).repeat(cell, axis=1)  # (height, width)
    height, width = pixels.shape
    lines = np.zeros((height, width + 1), np.uint8)  # each with a byte that says it is not filtered
    lines[:, 1:] = pixels
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"tEXt", PNG_MARK),
            _chunk(b"PLTE", bytes(part for tint in tints for part in tint)),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
