"""Plans the files of a box's secrets, which the process that makes the box reads. Nothing of them is on disk."""

from __future__ import annotations

import os

from jubako.boxes.secrets import SECRETS
from jubako.boxes.views.operations import PlaceSecrets, SecretFile, SetAttributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.boxes.secrets import BoxSecret
    from jubako.boxes.views.operations import Operation

__all__ = ["plan_secrets", "read_secrets"]


def read_secrets(secrets: Sequence[BoxSecret], owner: tuple[int, int] | None) -> tuple[SecretFile, ...]:
    """What the secrets hold, for `owner`, a uid and a gid, or for this user. InputError for one that can't be read."""
    uid, gid = owner or (os.geteuid(), os.getegid())
    return tuple(SecretFile(one.name, one.resolve(os.environ).value or b"", uid, gid) for one in secrets)


def plan_secrets(files: Sequence[SecretFile]) -> Iterator[Operation]:
    """Puts them in their place, after the box's own /run."""
    yield PlaceSecrets(SECRETS, tuple(files))
    yield SetAttributes(SECRETS, read_only=True)
