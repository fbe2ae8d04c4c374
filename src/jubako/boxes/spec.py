"""What a user says about a box, and what a run declares it will write. Values only; nothing here touches the system.

Box(Host())                                 the default for native tasks
Box(Host(), undeclared="fail")              a write nobody declared fails the task
Box(Host(), binds=["/data/models"])         shared read-write, never part of a result
"""

from __future__ import annotations

import os

from jubako.boxes.profiles import get_profile
from jubako.errors import InputError
from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal, TypeAlias

    from jubako.boxes.limits import Limits
    from jubako.boxes.mounts import Bind, Tmpfs
    from jubako.boxes.profiles import ProfileName
    from jubako.boxes.secrets import BoxSecret

__all__ = ["WHOLE_HOST", "Box", "Host", "Network", "Output", "OutputKind", "StagedOutput", "Undeclared"]

_LONGEST_HOSTNAME = 64  # __NEW_UTS_LEN

Undeclared: TypeAlias = "Literal['warn', 'fail', 'publish']"
Network: TypeAlias = "Literal['host', 'none', 'private']"
OutputKind: TypeAlias = "Literal['file', 'directory', 'elsewhere']"


@record
class Host:
    """This machine, copy-on-write, as the lowest layer of a stack.

    `whole=False`: the narrow view: everything read-only, overlays where a task is likely to write.
    `whole=True`: the wide view, which commands always have: as root one overlay per real file system, every bind
    re-created; as an ordinary user overlays over what this user can write.
    """

    whole: bool = False


@record
class Box:
    """How a box is made. Paths are absolute after construction (relative ones are resolved once, against the cwd)."""

    base: Host = field(default_factory=Host)
    undeclared: Undeclared = "warn"  # drop and report, refuse, or publish what nobody declared
    binds: Sequence[str] = ()  # shared read-write with the host, never part of a result
    cache: Sequence[str] = ()  # as binds, but made when missing
    sockets: Sequence[str] = ()  # control sockets left reachable, e.g. /run/docker.sock
    network: Network = "host"  # "none": its own, with nothing but loopback; "private": its own, that reaches out
    publish: Sequence[str] = ()  # of a private network: "[IP:]PORT:PORT[/udp]", the machine's port and the box's
    host_loopback: bool = False  # of a private network: the machine's localhost is in reach, at the gateway's address
    abstract_sockets: bool = False  # reach Unix sockets without a path, with the network shared; Landlock closes them
    capabilities: Sequence[str] = ()  # kept in the box, e.g. "CAP_DAC_OVERRIDE"; by default none (`capabilities`)
    scratch: Literal["memory", "disk"] = "memory"  # where overlay tops and TMPDIR live
    scratch_size_bytes: int | None = None  # limit for scratch="memory"; None: half of the machine's memory
    limits: Limits | None = None  # None: nothing is limited, and nothing measured
    # For commands; a task is refused that asks for one of these.
    mounts: Sequence[Bind | Tmpfs] = ()  # parts of the machine in other places, or read-only; memory (`boxes.mounts`)
    environment: Sequence[tuple[str, str]] = ()  # set for what runs in the box, above what it is started with
    hostname: str = ""  # "": the machine's
    cwd: str = ""  # in the box; "": where it is started
    user: str = ""  # root's boxes: a name, a uid, or either with ":gid" or ":group"; "": root
    profile: ProfileName = "task"  # how much is taken away from what runs in it (`boxes.profiles`)
    secrets: Sequence[BoxSecret] = ()  # files of its user's alone, in memory (`boxes.secrets`)

    def __post_init__(self) -> None:
        if self.undeclared not in ("warn", "fail", "publish"):
            raise InputError(f"undeclared={self.undeclared!r} is none of 'warn', 'fail', 'publish'")
        if self.scratch not in ("memory", "disk"):
            raise InputError(f"scratch={self.scratch!r} is neither 'memory' nor 'disk'")
        if self.network not in ("host", "none", "private"):
            raise InputError(f"network={self.network!r} is none of 'host', 'none', 'private'")
        if self.network != "private" and (self.publish or self.host_loopback):
            what = "publish" if self.publish else "host_loopback"
            raise InputError(f"{what} is for network='private', and contradicts network={self.network!r}")
        if isinstance(self.publish, str):
            raise InputError(f"publish={self.publish!r} is one string; give a list of ports")
        object.__setattr__(self, "publish", tuple(self.publish))
        for name in ("binds", "cache", "sockets"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise InputError(f"{name}={value!r} is one string; give a list of paths")
            object.__setattr__(self, name, tuple(os.path.abspath(os.path.expanduser(p)) for p in value))
        object.__setattr__(self, "capabilities", tuple(self.capabilities))
        object.__setattr__(self, "mounts", tuple(self.mounts))
        object.__setattr__(self, "secrets", tuple(self.secrets))
        self._check_profile()
        object.__setattr__(self, "environment", tuple((str(name), str(value)) for name, value in self.environment))
        if len(self.hostname.encode()) > _LONGEST_HOSTNAME or any(c.isspace() or c in "/\0" for c in self.hostname):
            raise InputError(f"hostname={self.hostname!r} is no name for a machine")
        if self.cwd and not self.cwd.startswith("/"):
            raise InputError(f"cwd={self.cwd!r} is not an absolute path")

    def _check_profile(self) -> None:
        profile = get_profile(self.profile)
        names = [secret.name for secret in self.secrets]
        if len(set(names)) < len(names):
            raise InputError(f"two secrets have the same name: {', '.join(names)}")
        if self.capabilities and profile.capabilities in ("none", "own"):
            which = "none" if profile.capabilities == "none" else "all of its own"
            raise InputError(
                f"profile={self.profile!r} has {which}, and contradicts capabilities={self.capabilities!r}"
            )
        if profile.is_sealed:
            if self.network == "private":
                raise InputError(f"profile={self.profile!r} has no network, and contradicts network='private'")
            object.__setattr__(self, "network", "none")
        if profile.is_first and self.user:
            raise InputError(
                f"profile={self.profile!r} is for an init, which is root in there, and not user={self.user!r}"
            )

    @property
    def for_commands(self) -> tuple[str, ...]:
        """The names of what it asks for that only commands can have."""
        names = ("mounts", "environment", "hostname", "cwd", "user", "secrets")
        asked = [name for name in names if getattr(self, name)]
        return (*asked, *(["profile"] if self.profile != "task" else []))


WHOLE_HOST = Box(Host(whole=True))  # what a command runs in: a view of everything this machine has


@record
class Output:
    """One declared output. `path` is absolute and normalised; a directory output is replaced as a whole.

    What belongs elsewhere than on this machine's file systems has any name for a path. It is staged and collected, as a
    file or a directory, and never moved: whoever declared it brings it where it belongs.
    """

    path: str
    kind: OutputKind = "file"


@record
class StagedOutput:
    """A declared output and where its new content is (or will be) staged, on the same mount, as host paths.

    After a run `staged` holds the complete new file or directory tree.
    """

    path: str
    kind: OutputKind
    staged: str
