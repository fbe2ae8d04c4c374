"""The page inside a notebook: a frame of its own, whose script reaches nothing of the notebook."""

from __future__ import annotations

from html import escape

__all__ = ["LARGEST_FRAME", "format_frame"]

LARGEST_FRAME = 32 << 20  # bytes; a notebook keeps its outputs in its file


def format_frame(page: bytes, title: str) -> str:
    """The page as a frame, or a sentence where it is too large for a notebook."""
    if len(page) > LARGEST_FRAME:
        return (
            f"<p>A page of {len(page) / 1e6:,.0f} MB is too large for a notebook: "
            "<code>jubako.attention.show(maps, 'maps.html')</code> writes it to a file.</p>"
        )
    return (
        f'<iframe title="{escape(title or "Attention")}" sandbox="allow-scripts" '
        f'style="width:100%;height:820px;border:0" srcdoc="{escape(page.decode())}"></iframe>'
    )
