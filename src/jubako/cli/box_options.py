"""The options that say how a box is made, for every command that makes one, and what they come to. Needs no click."""

from __future__ import annotations

from jubako.boxes.spec import Box, Host
from jubako.cli.line import Option
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from jubako.boxes.profiles import ProfileName
    from jubako.boxes.spec import Network

__all__ = ["BOX_OPTIONS", "NAME_OPTION", "USAGE_OPTION", "box_of"]


def _value(name: str, parameter: str, metavar: str, help_: str) -> Option:
    return Option((name,), parameter, help_, takes="value", default=None, metavar=metavar)


def _values(name: str, parameter: str, metavar: str, help_: str, short: str = "") -> Option:
    return Option((name,), parameter, help_, takes="values", default=(), metavar=metavar, short=short)


_NETWORK_OPTIONS = (
    Option(
        ("--network",),
        "network",
        "Share the machine's network (default), have none, or one of its own that reaches out.",
        takes="value",
        default=None,
        metavar="host|none|private",
        choices=("host", "none", "private"),
    ),
    Option(("--no-network",), "no_network", "The same as --network none."),
)
_LIMIT_OPTIONS = (
    _value("--memory", "memory_bytes", "SIZE", "Limit memory: 512M, 2G."),
    _value("--cpus", "cpus", "N", "Limit processors at a time: 1.5."),
    _value("--pids", "pids", "N", "Limit processes and threads."),
    _value("--files", "files", "N", "Limit open files, of each process."),
    _value("--time", "wall_s", "TIME", "End CMD after TIME (10s, 5m), with status 124."),
    _value("--cpu-time", "cpu_s", "TIME", "Limit processor time."),
    _value("--disk", "disk_bytes", "SIZE", "Limit what is written to disk."),
)
NAME_OPTION = Option(
    ("--name",),
    "name",
    "What to call the box; by default something that can be said.",
    takes="value",
    default="",
    metavar="NAME",
)
_PROFILES = ("task", "strict", "trusted", "system")  # `boxes.profiles.PROFILES`, of whose import `--help` has no need
BOX_OPTIONS = (
    Option(
        ("--profile",),
        "profile",
        "How much is taken away from CMD; 'jubako box profile' explains.",
        takes="value",
        default=None,
        metavar="NAME",
        choices=_PROFILES,
    ),
    *_NETWORK_OPTIONS,
    Option(
        ("--publish",),
        "publish",
        "Have a PORT of the machine lead into a private network.",
        takes="values",
        default=(),
        metavar="[IP:]PORT:PORT",
    ),
    Option(("--host-loopback",), "host_loopback", "Reach localhost from a private network."),
    Option(("--abstract-sockets",), "abstract_sockets", "Reach Unix sockets without a path."),
    _values("--bind", "binds", "PATH|SRC:DST[:OPTS]", "Share a path: writes are real. OPTS: ro, idmap=IDS."),
    _values("--tmpfs", "tmpfs", "PATH[:SIZE]", "Mount an empty file system in memory."),
    _values("--env", "settings", "NAME=VALUE", "Set a variable of the environment.", short="-e"),
    _values("--secret", "secrets", "NAME=FILE", "Show a secret in /run/secrets, to CMD alone."),
    _value("--hostname", "hostname", "NAME", "Call the machine NAME in there."),
    _value("--cwd", "box_cwd", "DIR", "Start in DIR of the box."),
    _value("--user", "user", "USER[:GROUP]", "Run as USER, a name or a number; for root."),
    *_LIMIT_OPTIONS,
)
USAGE_OPTION = Option(("--usage",), "usage", "Say what was used.")


def box_of(
    *,
    network: Network | None = None,
    no_network: bool = False,
    publish: Sequence[str] = (),
    host_loopback: bool = False,
    abstract_sockets: bool = False,
    binds: Sequence[str] = (),
    tmpfs: Sequence[str] = (),
    settings: Sequence[str] = (),
    secrets: Sequence[str] = (),
    profile: ProfileName | None = None,
    hostname: str | None = None,
    box_cwd: str | None = None,
    user: str | None = None,
    measure: bool = False,
    **limits: str | None,
) -> Box:
    """The box that the values of `BOX_OPTIONS` ask for; `measure` has it measured, too."""
    if no_network and network not in (None, "none"):
        raise InputError(f"--network {network} and --no-network contradict each other")
    if profile == "strict" and network not in (None, "none"):
        raise InputError(f"--profile strict has no network, and contradicts --network {network}")
    found = None
    if measure or any(value is not None for value in limits.values()):
        from jubako.cli.limit_values import parse_limits  # 2 modules, for boxes with limits

        found = parse_limits(limits, measure=measure)
    more: dict[str, Any] = {"hostname": hostname or "", "cwd": box_cwd or "", "user": user or ""}
    if settings or tmpfs or any(":" in bind for bind in binds):
        from jubako.cli.mount_values import parse_mounts, parse_settings  # 2 modules, for boxes with such

        binds, more["mounts"] = parse_mounts(binds, tmpfs)
        more["environment"] = tuple(parse_settings(settings).items())
    if secrets:
        from jubako.cli.mount_values import parse_secrets  # as above

        more["secrets"] = parse_secrets(secrets)
    return Box(
        Host(whole=True),
        binds=binds,
        **more,
        profile=profile or "task",
        network="none" if no_network else network or "host",
        publish=publish,
        host_loopback=host_loopback,
        abstract_sockets=abstract_sockets,
        limits=found,
    )
