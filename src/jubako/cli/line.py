"""Options as values: what click is told of them, and enough to read an ordinary command line without it.

Importing click takes longer than making a box. `read_line` reads the lines that leave no doubt; of all others it says
nothing, and click reads them, explains what is wrong with them, or shows the help.
"""

from __future__ import annotations

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

__all__ = ["Option", "read_line"]


@record
class Option:
    """One option of a command. One that takes nothing is true by its first name, and false by the second, if any."""

    names: tuple[str, ...]
    parameter: str  # what the command's function calls it
    help: str
    takes: Literal["nothing", "value", "values"] = "nothing"  # values: it may be repeated, each time with one
    default: Any = False
    metavar: str = ""
    choices: tuple[str, ...] = ()  # none: a value is a path
    short: str = ""  # another way to say the first name


def read_line(options: Sequence[Option], words: Sequence[str]) -> tuple[dict[str, Any], list[str]] | None:
    """The options' values and the words of the command behind them; None if it is for click to say.

    That is so without a command, and where a word that starts with a dash is none of `options` or stands for a value.
    """
    by_name = {name: option for option in options for name in (*option.names, option.short)}
    values = {option.parameter: option.default for option in options}
    at = 0
    while at < len(words) and words[at].startswith("-"):
        name, value = words[at], words[at + 1 : at + 2]
        if name == "--":
            return (values, [*value, *words[at + 2 :]]) if value else None
        if name not in by_name:
            return None
        option = by_name[name]
        if option.takes == "nothing":
            values[option.parameter] = name in (option.names[0], option.short)
            at += 1
            continue
        if not value or (value[0].startswith("-") and value[0] != "-"):
            return None
        if option.choices and value[0] not in option.choices:
            return None
        values[option.parameter] = value[0] if option.takes == "value" else (*values[option.parameter], value[0])
        at += 2
    return (values, list(words[at:])) if at < len(words) else None
