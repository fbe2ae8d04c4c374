"""What is printed, where, and how it looks. Names come from file systems and are hostile: `printable` is for them."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TextIO

__all__ = ["echo", "echo_bytes", "printable", "say", "style"]

_COLOURS = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36, "grey": 90}


def echo(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Prints a line on stdout, or on stderr, at once."""
    stream = _stream(err)
    stream.write(f"{text}{end}")
    stream.flush()


def echo_bytes(data: bytes) -> None:
    """Prints bytes on stdout as they are, at once: for what reads it from there."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def say(label: Literal["Error", "hint"], text: str) -> None:
    """Prints `label: text` on stderr, every line of the text safe for a terminal."""
    first, *rest = text.splitlines() or [""]
    echo(f"{style(f'{label}:', 'red' if label == 'Error' else 'cyan', err=True)} {printable(first)}", err=True)
    for line in rest:
        echo(f"  {printable(line)}", err=True)


def style(text: str, colour: str, *, bold: bool = True, err: bool = False) -> str:
    """`text` in colour, and mostly in bold, where the stream is a terminal and NO_COLOR does not forbid it."""
    if os.environ.get("NO_COLOR") or not _stream(err).isatty():
        return text
    weight = "\x1b[1m" if bold else ""
    return f"\x1b[{_COLOURS[colour]}m{weight}{text}\x1b[0m"


def printable(text: str) -> str:
    """`text` with every character a terminal could obey, or cannot show, written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as os.fsdecode carries it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _stream(err: bool) -> TextIO:
    return sys.stderr if err else sys.stdout
