"""Option lines as getopt_long(3) reads them, for commands that take another program's options letter by letter.

    -imnpuCf        letters in one word              --mount=FILE   a value that may be missing is attached
    -R DIR, -RDIR   a value follows or is attached   --mount-p      the start of a long name is enough

The first word that is no option ends them, and so does `--`. click reads lines otherwise: an optional value would
swallow the program's name.
"""

from __future__ import annotations

from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

__all__ = ["DEBUG", "Switch", "asks_for", "read_switches"]


@record
class Switch:
    """One option: its letter ("" for none), its long name, and whether a value must, may or can't follow.

    One without a help is listed together with the next one. One that may have a value ("maybe") has it by its long
    name, and if it is "attached", behind the letter too.
    """

    letter: str
    name: str
    help: str
    takes: Literal["nothing", "value", "maybe", "attached"] = "nothing"
    metavar: str = ""

    def shown(self) -> str:
        """As a list of options shows it."""
        value = {"nothing": "", "value": f" {self.metavar}"}.get(self.takes, f"[={self.metavar}]")
        return f"-{self.letter}, --{self.name}{value}" if self.letter else f"--{self.name}{value}"


DEBUG = Switch("", "debug", "show the traceback of an error")  # read by `exits`, before anything else


def asks_for(names: Sequence[str], switches: Sequence[Switch], words: Sequence[str]) -> bool:
    """True if the line can be read and has one of these options, --help say."""
    try:
        given, _ = read_switches(switches, words)
    except InputError:
        return False
    return any(name in names for name, _ in given)


def read_switches(switches: Sequence[Switch], words: Sequence[str]) -> tuple[list[tuple[str, str | None]], list[str]]:
    """The options given, each as its long name and its value (None without one), and the words behind them."""
    switches = (*switches, DEBUG)
    waiting = list(reversed(words))
    given: list[tuple[str, str | None]] = []
    while waiting and waiting[-1].startswith("-") and waiting[-1] != "-":
        word = waiting.pop()
        if word == "--":
            break
        if word.startswith("--"):
            given.append(_read_long(switches, word, waiting))
        else:
            given += _read_letters(switches, word[1:], waiting)
    return given, waiting[::-1]


def _read_long(switches: Sequence[Switch], word: str, waiting: list[str]) -> tuple[str, str | None]:
    name, has_value, value = word[2:].partition("=")
    switch = _find_long(switches, name)
    if switch.takes == "nothing" and has_value:
        raise InputError(f"option --{switch.name} takes no value", hint=f"Write --{switch.name}.")
    if has_value:
        return switch.name, value
    if switch.takes != "value":
        return switch.name, None
    return switch.name, _next(switch, f"--{switch.name}", waiting)


def _find_long(switches: Sequence[Switch], name: str) -> Switch:
    found = [switch for switch in switches if switch.name.startswith(name)]
    if exact := [switch for switch in found if switch.name == name]:
        return exact[0]
    if len(found) > 1:
        raise InputError(
            f"option --{name} is ambiguous", hint=f"It could be {', '.join(f'--{one.name}' for one in found)}."
        )
    if not found:
        import difflib  # for the mistaken

        close = difflib.get_close_matches(name, [switch.name for switch in switches], n=3, cutoff=0.6)
        hint = f"Did you mean {' or '.join(f'--{one}' for one in close)}?" if close else "--help lists the options."
        raise InputError(f"there is no option --{name}", hint=hint)
    return found[0]


def _read_letters(switches: Sequence[Switch], letters: str, waiting: list[str]) -> list[tuple[str, str | None]]:
    given: list[tuple[str, str | None]] = []
    while letters:
        letter, letters = letters[0], letters[1:]
        switch = next((one for one in switches if one.letter == letter), None)
        if switch is None:
            raise InputError(f"there is no option -{letter}", hint="--help lists the options.")
        if switch.takes in ("nothing", "maybe"):
            given.append((switch.name, None))
            continue
        value = letters or (_next(switch, f"-{letter}", waiting) if switch.takes == "value" else None)
        given.append((switch.name, value))
        letters = ""
    return given


def _next(switch: Switch, shown: str, waiting: list[str]) -> str:
    if not waiting:
        raise InputError(f"option {shown} needs a value", hint=f"{switch.shown()}: {switch.help}.")
    return waiting.pop()
