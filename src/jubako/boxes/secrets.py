"""Secrets for a command in a box: each is a file there, in memory, that its user alone can read.

BoxSecret("token", file="~/.token")       read when the box is started
BoxSecret("token", descriptor=3)          read to its end, once
BoxSecret("token", variable="API_TOKEN")  taken out of the command's environment
BoxSecret("token", value=b"...")

What they hold is never in an argument, an environment, a record on disk, or the text of a record.
"""

from __future__ import annotations

import os

from jubako.errors import InputError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SECRETS", "BoxSecret"]

SECRETS = "/run/secrets"  # where they are in a box, each by its name
_LARGEST_BYTES = 1 << 20


@record
class BoxSecret:
    """A secret, by one of the ways above. `name` is its file's in `SECRETS`."""

    name: str
    file: str = ""
    descriptor: int = -1
    variable: str = ""
    value: bytes | None = None

    def __post_init__(self) -> None:
        if not self.name or self.name in (".", "..") or any(c in "/\0" for c in self.name):
            raise InputError(f"{self.name!r} is no name for a secret: it becomes that of a file")
        ways = (bool(self.file), self.descriptor >= 0, bool(self.variable), self.value is not None)
        if sum(ways) != 1:
            raise InputError(
                f"secret {self.name!r} is to come from one place: a file, a descriptor, a variable, a value"
            )
        if self.file:
            object.__setattr__(self, "file", os.path.abspath(os.path.expanduser(self.file)))

    def __repr__(self) -> str:
        says = {"file": self.file, "variable": self.variable}
        shown = [f"{name}={value!r}" for name, value in says.items() if value]
        if self.descriptor >= 0:
            shown.append(f"descriptor={self.descriptor}")
        return f"BoxSecret({', '.join([repr(self.name), *(shown or ['value=...'])])})"

    @property
    def is_lasting(self) -> bool:
        """Whether it can be read again, as for a box that is started again."""
        return bool(self.file)

    def resolve(self, environment: Mapping[str, str]) -> BoxSecret:
        """This secret by its value; `environment` is where variables are taken from. InputError if it can't be read."""
        value = self.value
        if self.variable:
            if self.variable not in environment:
                raise InputError(f"secret {self.name!r}: the variable {self.variable} is not set")
            value = os.fsencode(environment[self.variable])
        elif value is None:
            source = self.descriptor if self.descriptor >= 0 else self.file
            try:
                with open(source, "rb", closefd=self.descriptor < 0) as stream:
                    value = stream.read(_LARGEST_BYTES + 1)
            except OSError as error:
                what = self.file or f"descriptor {self.descriptor}"
                raise InputError(
                    f"secret {self.name!r}: {what} cannot be read: {error.strerror}",
                    hint="A secret is the content of a file or a descriptor, or of a variable: NAME=env:VARIABLE.",
                ) from error
        if len(value) > _LARGEST_BYTES:
            raise InputError(f"secret {self.name!r} is larger than {_LARGEST_BYTES >> 20} MiB")
        return BoxSecret(self.name, value=value)
