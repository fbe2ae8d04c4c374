"""What --bind, --tmpfs, --env and --secret say, as values. InputError for what says nothing.

They are written SRC:DST[:OPTION,...], PATH[:SIZE], NAME=VALUE and NAME=SOURCE. Owners are mapped in the words of
others: `idmap=uids=0-1000-1#5-1005-10;gids=0-1000-1` is podman's, `rootidmap` and `owneridmap` are systemd-nspawn's.
"""

from __future__ import annotations

import os

from jubako.boxes.mounts import Bind, IdMap, Tmpfs
from jubako.boxes.secrets import BoxSecret
from jubako.cli.limit_values import parse_size
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

__all__ = ["parse_mounts", "parse_secrets", "parse_settings"]


def parse_mounts(binds: Sequence[str], tmpfs: Sequence[str]) -> tuple[tuple[str, ...], tuple[Bind | Tmpfs, ...]]:
    """The paths that are shared in their own place, and all other mounts. One with a ':' in its name must exist."""
    shared, mounts = [], []
    for word in binds:
        parts = word.split(":")
        if len(parts) == 1 or os.path.lexists(word):
            shared.append(word)
        elif len(parts) in (2, 3) and all(parts):
            mounts.append(_parse_bind(word, parts[0], parts[1], parts[2].split(",") if len(parts) == 3 else []))
        else:
            raise InputError(f"--bind {word} is neither PATH nor SRC:DST nor SRC:DST:OPTION,...")
    return tuple(shared), (*mounts, *map(_parse_tmpfs, tmpfs))


def parse_settings(settings: Sequence[str]) -> dict[str, str]:
    """The variables of NAME=VALUE, or of NAME alone, which has the value it has here."""
    found = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name or (not equals and name not in os.environ):
            raise InputError(
                f"{setting!r} sets no variable",
                hint="It is written NAME=VALUE, or NAME for one that is set here, too.",
            )
        found[name] = value if equals else os.environ[name]
    return found


def parse_secrets(words: Sequence[str]) -> list[BoxSecret]:
    """The secrets of NAME=FILE, NAME=env:VARIABLE and NAME=fd:NUMBER."""
    found = []
    for word in words:
        name, _, source = word.partition("=")
        kind, _, rest = source.partition(":")
        if not name or not source:
            raise InputError(
                f"--secret {word!r} names no source", hint="It is NAME=FILE, NAME=env:VARIABLE or NAME=fd:N."
            )
        if kind == "env" and rest:
            found.append(BoxSecret(name, variable=rest))
        elif kind == "fd" and rest.isdecimal():
            found.append(BoxSecret(name, descriptor=int(rest)))
        else:
            found.append(BoxSecret(name, file=source))
    return found


def _parse_bind(word: str, source: str, target: str, options: Sequence[str]) -> Bind:
    is_read_only = False
    idmap: IdMap | Literal["root", "owner"] | None = None
    for option in options:
        name, equals, value = option.partition("=")
        if option in ("ro", "rw"):
            is_read_only = option == "ro"
        elif option in ("rootidmap", "owneridmap"):
            idmap = "root" if option == "rootidmap" else "owner"
        elif name == "idmap" and equals:
            idmap = _parse_idmap(word, value)
        else:
            raise InputError(
                f"--bind {word}: {option!r} is no option of a bind",
                hint="There are ro, rw, idmap=uids=FILES-BOX-COUNT;gids=FILES-BOX-COUNT, rootidmap and owneridmap.",
            )
    return Bind(source, target, is_read_only, idmap)


def _parse_idmap(word: str, text: str) -> IdMap:
    """The map of "uids=0-1000-1#5-1005-10;gids=0-1000-1"."""
    found: dict[str, list[tuple[int, int, int]]] = {"uids": [], "gids": []}
    for part in text.split(";"):
        kind, _, ranges = part.partition("=")
        for one in ranges.split("#"):
            numbers = one.split("-")
            if kind not in found or len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
                raise InputError(
                    f"--bind {word}: {part!r} maps no ids",
                    hint="It is written uids=FILES-BOX-COUNT or gids=FILES-BOX-COUNT; more ranges follow a '#'.",
                )
            first, in_box, count = map(int, numbers)
            found[kind].append((first, in_box, count))
    return IdMap(**found)


def _parse_tmpfs(word: str) -> Tmpfs:
    path, colon, size = word.partition(":")
    try:
        return Tmpfs(path, parse_size(size.removeprefix("size=")) if colon else None)
    except ValueError as error:
        raise InputError(f"--tmpfs {word!r}: {size!r} {error}") from None
