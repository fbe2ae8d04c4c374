"""What one look at the host found, as a value: the fact, why it matters, and the cure where something is missing."""

from __future__ import annotations

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

__all__ = ["GIB", "MIB", "Ability", "HostReport", "Verdict", "format_size", "read_number", "read_text"]

Verdict: TypeAlias = "Literal['yes', 'limited', 'no']"

MIB = 1 << 20
GIB = 1 << 30


@record
class Ability:
    """One thing the host can do, can do in part, or cannot. `cure` is "" where nothing is missing."""

    about: str  # the subject it belongs to: "kernel", "files"
    name: str
    verdict: Verdict
    meaning: str  # the fact
    why: str  # why it matters, one clause
    cure: str = ""


@record
class HostReport:
    """Everything `examine_host` found; the first ability is "boxes"."""

    kernel_release: str
    machine: str
    is_root: bool
    can_box: bool
    container: str  # what this runs in: "podman", or "" where nothing shows
    abilities: tuple[Ability, ...]


def format_size(size_bytes: int) -> str:
    """A size as people read it, in MiB or GiB."""
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB else f"{size_bytes // MIB} MiB"


def read_text(path: str) -> str:
    """What the small file at `path` says, without space around it; "" where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip("\0 \t\n")
    except OSError:
        return ""


def read_number(path: str) -> int | None:
    """The number in the file at `path`; None where there is none."""
    text = read_text(path)
    return int(text) if text.lstrip("-").isdecimal() else None
