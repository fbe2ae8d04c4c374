"""Files compared as bytes and as text: piece by piece, up to the first difference, in memory that does not grow."""

from __future__ import annotations

from jubako.verify.findings import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

    from jubako.verify.content import File
    from jubako.verify.findings import Findings

__all__ = ["are_equal", "compare_bytes", "compare_text", "looks_like_text"]

_PIECE = 1 << 18
_LINE = 1 << 16  # a line is compared in pieces of so many bytes
_BEFORE = 8  # bytes shown before the first that differs


def are_equal(one: File, other: File) -> bool:
    """True if both files hold the same bytes, as they are."""
    with one.open_raw() as published, other.open_raw() as recomputed:
        while True:
            piece = published.read(_PIECE)
            if piece != recomputed.read(_PIECE):
                return False
            if not piece:
                return True


def compare_bytes(one: File, other: File, findings: Findings) -> None:
    """The first byte that differs."""
    with one.open() as published, other.open() as recomputed:
        offset = 0
        while True:
            pieces = _read(published), _read(recomputed)
            if pieces[0] != pieces[1]:
                place = _find_first(*pieces)
                start = max(0, place - _BEFORE)
                shown = [show(piece[start : place + 24]) if place < len(piece) else "the end" for piece in pieces]
                findings.differ(f"byte {offset + place}", *shown)
                findings.is_partial = True
                return
            if not pieces[0]:
                return
            offset += len(pieces[0])


def compare_text(one: File, other: File, findings: Findings) -> None:
    """The first line that differs; line ends and byte order marks count."""
    with one.open() as published, other.open() as recomputed:
        number, column = 1, 0
        while True:
            pieces = published.readline(_LINE), recomputed.readline(_LINE)
            if pieces[0] != pieces[1]:
                place = _find_first(*pieces)
                start = max(0, place - 20) if place > 40 else 0
                shown = [show(_decode(piece[start:])) if piece else "" for piece in pieces]
                findings.differ(f"line {number}, byte {column + place + 1}", *shown)
                findings.is_partial = True
                return
            if not pieces[0]:
                return
            if pieces[0].endswith(b"\n"):
                number, column = number + 1, 0
            else:
                column += len(pieces[0])


def looks_like_text(file: File) -> bool:
    """True if the beginning of the content has no byte that texts don't have."""
    with file.open() as stream:
        return b"\0" not in stream.read(1 << 13)


def _read(stream: BinaryIO) -> bytes:
    """The next piece, whole unless the end is near: a decompressed stream may give less at a time."""
    piece = stream.read(_PIECE)
    while piece and len(piece) < _PIECE:
        more = stream.read(_PIECE - len(piece))
        if not more:
            break
        piece += more
    return piece


def _find_first(one: bytes, other: bytes) -> int:
    """Where two byte strings begin to differ."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _decode(piece: bytes) -> str:
    return piece.decode("utf-8", "backslashreplace")
