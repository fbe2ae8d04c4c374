"""The layers of an overlay as text: in a list for people and mount(2), and in the options a mount table shows. Pure.

A colon separates the layers of a list; one that belongs to a name has a backslash before it, as has a backslash. A
mount table shows such a list (`lowerdir=`) for what mount(2) was given, and then all paths with their backslashes. For
layers that were given one by one it shows `lowerdir+=` for each, as they are called. All of it is escaped once more, as
everything in a mount table is.
"""

from __future__ import annotations

from jubako.kernel.mount_table import unescape
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ShownLayers", "format_layer_list", "parse_layer_list", "parse_shown_options"]

_SPECIAL = {ord(special): f"\\{special}" for special in "\\:"}


@record
class ShownLayers:
    """What a mount table says about an overlay. Paths are those that it was mounted with, the topmost lower first."""

    lowers: tuple[str, ...] = ()
    upper: str = ""
    work: str = ""
    volatile: bool = False


def parse_layer_list(text: str) -> tuple[str, ...]:
    """The paths in a list "a:b\\:c". Those without a name ("a::b") are left out, as an empty one is none."""
    return tuple(path for path in _split(text) if path)


def format_layer_list(paths: Iterable[str]) -> str:
    """The list for `paths`; `parse_layer_list` gives them back."""
    return ":".join(path.translate(_SPECIAL) for path in paths)


def parse_shown_options(text: str) -> ShownLayers:
    """The layers in the options that a mount table shows for an overlay (`Mount.super_options`).

    Layers that are there for their data alone ("a::b", `datadir+`) show no names of their own, and are left out.
    """
    lowers: list[str] = []
    found = {"upperdir": "", "workdir": ""}
    volatile = is_list = False
    for option in text.split(","):
        name, _, value = option.partition("=")
        if name == "lowerdir+":
            lowers.append(unescape(value))
        elif name == "lowerdir":
            is_list = True
            paths = _split(unescape(value))
            lowers += paths[: paths.index("")] if "" in paths else paths
        elif name in found:
            found[name] = unescape(value)
        elif option in ("volatile", "fsync=volatile"):
            volatile = True
    upper, work = (("".join(_split(one, at="")) if is_list else one) for one in found.values())
    return ShownLayers(tuple(lowers), upper, work, volatile)


def _split(text: str, *, at: str = ":") -> list[str]:
    """What stands between separators, with the backslashes taken off."""
    parts = [""]
    letters = iter(text)
    for letter in letters:
        if letter == "\\":
            parts[-1] += next(letters, "\\")
        elif letter == at:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
