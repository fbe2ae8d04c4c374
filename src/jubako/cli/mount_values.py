"""What --bind, --tmpfs, --env and --secret say, as values: SRC:DST[:ro], PATH[:SIZE], NAME=VALUE, NAME=SOURCE.

InputError for others.
"""

from __future__ import annotations

import os

from jubako.boxes.mounts import Bind, Tmpfs
from jubako.boxes.secrets import BoxSecret
from jubako.cli.limit_values import parse_size
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["parse_mounts", "parse_secrets", "parse_settings"]


def parse_mounts(binds: Sequence[str], tmpfs: Sequence[str]) -> tuple[tuple[str, ...], tuple[Bind | Tmpfs, ...]]:
    """The paths that are shared in their own place, and all other mounts. One with a ':' in its name must exist."""
    shared, mounts = [], []
    for word in binds:
        parts = word.split(":")
        if len(parts) == 1 or os.path.lexists(word):
            shared.append(word)
        elif len(parts) == 2 and all(parts):
            mounts.append(Bind(parts[0], parts[1]))
        elif len(parts) == 3 and all(parts) and parts[2] in ("ro", "rw"):
            mounts.append(Bind(parts[0], parts[1], read_only=parts[2] == "ro"))
        else:
            raise InputError(f"--bind {word} is neither PATH nor SRC:DST nor SRC:DST:ro")
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


def _parse_tmpfs(word: str) -> Tmpfs:
    path, colon, size = word.partition(":")
    try:
        return Tmpfs(path, parse_size(size.removeprefix("size=")) if colon else None)
    except ValueError as error:
        raise InputError(f"--tmpfs {word!r}: {size!r} {error}") from None
