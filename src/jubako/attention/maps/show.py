"""Maps as one HTML file."""

from __future__ import annotations

from jubako.attention.maps.page import PAGE_MARK, format_page
from jubako.verify.publishing import publishing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from jubako.attention.maps.maps import Maps

__all__ = ["show"]


def show(maps: Maps, path: str | os.PathLike[str], *, other: Maps | None = None) -> int:
    """Writes a page that shows the maps, and with `other` those of a second run and the difference; its size in bytes.

    The page is one file that loads nothing. It is there whole or not at all, and replaces nothing but such a page.
    InputError: it would be too large, the two don't fit, another file is there; HostError: it can't be written.
    """
    pieces = format_page([("maps", maps)] if other is None else runs_of(maps, other))
    with publishing(path, PAGE_MARK, "page of maps") as file:
        file.writelines(pieces)
    return sum(map(len, pieces))


def runs_of(maps: Maps, other: Maps) -> list[tuple[str, Maps]]:
    """Two runs and their difference, with the words that the page has for them."""
    return [("A", maps), ("B", other), ("B − A", maps.difference(other))]
