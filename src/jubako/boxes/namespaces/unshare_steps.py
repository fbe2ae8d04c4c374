"""The steps that lead a process into new namespaces, as values. `plan_unshare` writes them, `unshare` performs them.

Nothing here touches the system. `describe()` completes "cannot ..." in errors.
"""

from __future__ import annotations

from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from jubako.boxes.namespaces.kinds import KindName
    from jubako.kernel.idmap import IdRange

__all__ = [
    "BindNamespace",
    "ChangeDirectory",
    "ChangeRoot",
    "Fork",
    "KeepCapabilities",
    "MakeNamespaces",
    "MapIds",
    "MountBinfmt",
    "MountProc",
    "OutsideStep",
    "Plan",
    "RegisterFormat",
    "SetClock",
    "SetGid",
    "SetPropagation",
    "SetUid",
    "Setgroups",
    "Step",
]


@record
class MakeNamespaces:
    """unshare(2) with these kinds."""

    kinds: tuple[KindName, ...]

    def describe(self) -> str:
        if len(self.kinds) == 1:
            return f"make a new {self.kinds[0]} namespace"
        return f"make new namespaces ({', '.join(self.kinds)})"


@record
class MapIds:
    """Gives the new user namespace its map of "uid" or "gid", written to /proc or by the set-id program `program`."""

    kind: str
    ranges: tuple[IdRange, ...]
    program: str | None = None

    def describe(self) -> str:
        return f"map {'users' if self.kind == 'uid' else 'groups'} into the new user namespace"


@record
class BindNamespace:
    """Binds the namespace of a kind to a file, where it stays when its last process has ended."""

    kind: KindName
    file: str

    def describe(self) -> str:
        return f"make the {self.kind} namespace persistent"


@record
class SetClock:
    """Sets a clock of the new time namespace off."""

    clock: str
    offset_s: int

    def describe(self) -> str:
        return f"set the {self.clock} clock off by {self.offset_s} seconds"


@record
class Fork:
    """The program runs in a child; this process waits, and ends as it does."""

    death_signal: int | None = None
    forward_signals: bool = False

    def describe(self) -> str:
        return "start a child"


@record
class Setgroups:
    """Allows or denies setgroups(2) in the user namespace."""

    value: str

    def describe(self) -> str:
        return f"{self.value} setgroups"


@record
class SetPropagation:
    """Says how mounts travel between the new mount namespace and others, from `path` down."""

    path: str
    propagation: str
    may_be_no_mount: bool = False

    def describe(self) -> str:
        return f"make {self.path} recursively {self.propagation}"


@record
class ChangeRoot:
    """chroot(2)."""

    path: str

    def describe(self) -> str:
        return "change the root directory"


@record
class ChangeDirectory:
    """chdir(2)."""

    path: str

    def describe(self) -> str:
        return "change the working directory"


@record
class MountProc:
    """Mounts a proc of the new pid namespace."""

    path: str

    def describe(self) -> str:
        return "mount proc"


@record
class MountBinfmt:
    """Mounts the binary formats of the new user namespace."""

    path: str

    def describe(self) -> str:
        return "mount binfmt_misc"


@record
class RegisterFormat:
    """Registers a binary format with the binfmt_misc mounted at `path`."""

    path: str
    definition: str

    def describe(self) -> str:
        return f"register the binary format {self.definition!r}"


@record
class SetGid:
    """Drops all supplementary groups and sets the group id."""

    gid: int

    def describe(self) -> str:
        return f"set the group id {self.gid}"


@record
class SetUid:
    """Sets the user id."""

    uid: int

    def describe(self) -> str:
        return f"set the user id {self.uid}"


@record
class KeepCapabilities:
    """Makes the capabilities in the new user namespace ambient, so that the program has them too."""

    def describe(self) -> str:
        return "keep the capabilities"


OutsideStep: TypeAlias = "MapIds | Setgroups"
Step: TypeAlias = (
    "MakeNamespaces | MapIds | SetClock | Setgroups | SetPropagation | ChangeRoot | ChangeDirectory | MountProc"
    " | MountBinfmt | RegisterFormat | SetGid | SetUid | KeepCapabilities"
)


@record
class Plan:
    """In this order: `before_make`, `make`, `maps` by a helper that stays outside, the bind of a mount namespace by
    another helper, `before_fork`, `fork`, the other `binds`, and in the child, if there is one, `after_fork`. Then the
    environment is reduced."""

    before_make: tuple[Step, ...]
    make: MakeNamespaces
    maps: tuple[OutsideStep, ...]
    before_fork: tuple[Step, ...]
    fork: Fork | None
    binds: tuple[BindNamespace, ...]
    after_fork: tuple[Step, ...]
    kept_variables: tuple[str, ...] | None  # None: all

    def describe(self) -> tuple[str, ...]:
        """The steps in words, in the order in which they are taken."""
        forks = () if self.fork is None else (self.fork,)
        steps = (*self.before_make, self.make, *self.maps, *self.before_fork, *forks, *self.binds, *self.after_fork)
        return tuple(step.describe() for step in steps)
