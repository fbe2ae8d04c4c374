"""Tokens as they can be shown: they are whatever a tokenizer found in whatever text."""

from __future__ import annotations

import unicodedata

__all__ = ["columns_of", "cut", "visible"]


def visible(token: str) -> str:
    """The token with a sign for what can't be seen, or what a terminal, a browser or XML would obey; as in the page."""
    if not token:
        return "∅"
    if token.isascii() and token.isprintable() and " " not in token:
        return token
    return "".join(map(_sign_of, token))


def _sign_of(character: str) -> str:
    if unicodedata.category(character)[0] not in "CZ":
        return character
    signs = {" ": "␣", "\n": "⏎"}
    code = ord(character)
    return signs.get(character) or (chr(0x2400 + code) if code < 0x20 else f"\\u{{{code:x}}}")


def columns_of(text: str) -> int:
    """Columns that a text takes on a terminal: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, columns: int) -> str:
    """The text in no more columns, with a mark where something was cut off."""
    if columns_of(text) <= columns:
        return text
    while columns_of(text) > columns - 1:
        text = text[:-1]
    return f"{text}…"
