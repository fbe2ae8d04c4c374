"""The size of a terminal: asked for before a program starts on one like it, which may ask at once, and carried over."""

from __future__ import annotations

import termios

__all__ = ["copy_size", "read_size"]


def read_size(terminal: int) -> tuple[int, int]:
    """Its rows and columns; (0, 0), which says nothing, of what is no terminal or has hung up."""
    try:
        return termios.tcgetwinsize(terminal)
    except (termios.error, OSError):
        return 0, 0


def copy_size(ours: int, master: int) -> None:
    """Gives the terminal of `master` the size of ours; nothing happens where one of them is none, or has hung up."""
    try:
        termios.tcsetwinsize(master, termios.tcgetwinsize(ours))
    except (termios.error, OSError):
        return
