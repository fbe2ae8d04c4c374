"""Puts what Python says of a text that it cannot read into words for who typed it: what form is expected instead.

`parse` itself raises what Luigi's raises, word for word.
"""

from __future__ import annotations

from typing import Final

__all__ = ["put_in_words"]

_DIGITS: Final = {"%Y": "YYYY", "%m": "MM", "%d": "DD", "%H": "HH", "%M": "MM", "%S": "SS"}


def put_in_words(reason: str, date_format: str = "") -> str:
    """`reason`, the message of a ValueError, without literals, bases and formats. `date_format` is what was tried.

    >>> put_in_words("unconverted data remains: T05", "%Y-%m-%d")
    'its form is not YYYY-MM-DD'
    """
    if reason.startswith("invalid literal for int()"):
        return "it is not a whole number"
    if reason.startswith("could not convert string to float"):
        return "it is not a number"
    if reason.startswith(("time data ", "unconverted data remains")):
        form = date_format
        for code, digits in _DIGITS.items():
            form = form.replace(code, digits)
        return f"its form is not {form}"
    return reason
