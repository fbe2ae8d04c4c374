"""What `jubako unshare` takes and does. Needs no click. The options and their meaning are unshare(1)'s."""

from __future__ import annotations

import os

from jubako.boxes.namespaces.kinds import KINDS
from jubako.boxes.namespaces.plan_id_map import ID_LIMIT
from jubako.boxes.namespaces.plan_unshare import BINFMT
from jubako.boxes.namespaces.unshare import unshare_and_execute
from jubako.boxes.namespaces.unshare_options import Unshare
from jubako.cli.getopt_line import Switch, read_switches
from jubako.cli.namespace_line import finish_like_util_linux, read_id, read_number, read_signal
from jubako.errors import InputError
from jubako.kernel.idmap import IdRange
from jubako.kernel.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from jubako.boxes.namespaces.unshare_options import MapRange

__all__ = ["SWITCHES", "parse_unshare", "run_unshare"]

_OF_KINDS = (
    Switch("m", "mount", "new mount namespace", "maybe", "FILE"),
    Switch("u", "uts", "new UTS namespace: host and domain name", "maybe", "FILE"),
    Switch("i", "ipc", "new IPC namespace", "maybe", "FILE"),
    Switch("n", "net", "new network namespace", "maybe", "FILE"),
    Switch("p", "pid", "new pid namespace (see --fork)", "maybe", "FILE"),
    Switch("U", "user", "new user namespace", "maybe", "FILE"),
    Switch("C", "cgroup", "new cgroup namespace", "maybe", "FILE"),
    Switch("T", "time", "new time namespace", "maybe", "FILE"),
)
SWITCHES = (
    *_OF_KINDS,
    Switch("f", "fork", "run CMD in a child"),
    Switch("", "forward-signals", "hand SIGINT and SIGTERM on to CMD"),
    Switch("", "kill-child", "signal for CMD when we die", "maybe", "SIGNAL"),
    Switch("", "map-user", "be this user inside", "value", "UID|NAME"),
    Switch("", "map-group", "be this group inside", "value", "GID|NAME"),
    Switch("r", "map-root-user", "be root inside"),
    Switch("c", "map-current-user", "be who you are inside too"),
    Switch("", "map-auto", "map your ranges of subordinate ids"),
    Switch("", "map-subids", "the same, to themselves"),
    Switch("", "map-users", "", "value", "RANGE"),
    Switch("", "map-groups", "IN:OUT:COUNT, auto, subids or all", "value", "RANGE"),
    Switch("", "owner", "who owns the user namespace", "value", "UID:GID"),
    Switch("", "setgroups", "what setgroups(2) answers", "value", "allow|deny"),
    Switch("", "keep-caps", "CMD has the capabilities too"),
    Switch("", "propagation", "private, shared, slave, unchanged", "value", "KIND"),
    Switch("", "mount-proc", "mount a new /proc", "maybe", "DIR"),
    Switch("", "mount-binfmt", "mount a new binfmt_misc", "maybe", "DIR"),
    Switch("l", "load-interp", "register this binary format", "value", "FORMAT"),
    Switch("R", "root", "change the root directory", "value", "DIR"),
    Switch("w", "wd", "change the working directory", "value", "DIR"),
    Switch("S", "setuid", "set the user id", "value", "UID"),
    Switch("G", "setgid", "set the group id, drop groups", "value", "GID"),
    Switch("", "monotonic", "", "value", "SECONDS"),
    Switch("", "boottime", "set off these clocks", "value", "SECONDS"),
    Switch("", "clear-env", "clear the environment"),
    Switch("", "whitelist-env", "clear all but these variables", "value", "NAME,..."),
    Switch("h", "help", ""),
    Switch("V", "version", "show this, or the version"),
)
_PROPAGATIONS = ("private", "shared", "slave", "unchanged")


def run_unshare(words: Sequence[str]) -> int:
    """Runs a program in new namespaces; its exit code."""

    def run() -> int:
        options, command = parse_unshare(words)
        return unshare_and_execute(command, options)

    return finish_like_util_linux(run)


def parse_unshare(words: Sequence[str]) -> tuple[Unshare, list[str]]:
    """The options on the line, and the program behind them. Raises InputError."""
    given, command = read_switches(SWITCHES, words)
    fields: dict[str, Any] = {"new": (), "persist": {}, "map_users": (), "map_groups": (), "whitelist_env": ()}
    for name, value in given:
        _take(fields, name, value)
    return Unshare(**fields), command


def _take(fields: dict[str, Any], name: str, value: str | None) -> None:
    text = value or ""
    if name in KINDS:
        fields["new"] = (*fields["new"], name)
        if value is not None:
            fields["persist"][name] = value
        return
    match name:
        case "fork" | "forward-signals" | "keep-caps" | "clear-env":
            fields[name.replace("-", "_")] = True
        case "kill-child":
            fields["kill_child"] = signal.SIGKILL if value is None else read_signal(value)
        case "map-user":
            fields["map_user"] = read_id(text, "user")
        case "map-group":
            fields["map_group"] = read_id(text, "group")
        case "map-root-user":
            fields.update(map_user=0, map_group=0)
        case "map-current-user":
            fields.update(map_user=os.geteuid(), map_group=os.getegid())
        case "map-auto" | "map-subids":
            for field in ("map_users", "map_groups"):
                fields[field] = (*fields[field], name.removeprefix("map-"))
        case "owner":
            uid, _, gid = text.partition(":")
            fields["owner"] = tuple(read_number(part, "--owner UID:GID", most=ID_LIMIT - 1) for part in (uid, gid))
        case "whitelist-env":
            fields["whitelist_env"] = (*fields["whitelist_env"], *text.split(","))
        case "map-users" | "map-groups":
            field = name.replace("-", "_")
            fields[field] = (*fields[field], _read_range(text))
        case "setgroups" | "propagation":
            choices = ("allow", "deny") if name == "setgroups" else _PROPAGATIONS
            if text not in choices:
                raise InputError(f"--{name} is {', '.join(choices[:-1])} or {choices[-1]}, not {text!r}")
            fields[name] = text
        case "mount-proc":
            fields["mount_proc"] = "/proc" if value is None else value
        case "mount-binfmt":
            fields["mount_binfmt"] = BINFMT if value is None else value
        case "load-interp" | "root":
            fields[name.replace("-", "_")] = text
        case "wd":
            fields["directory"] = text
        case "setuid" | "setgid":
            fields[name.removeprefix("set")] = read_number(text, f"--{name}", most=ID_LIMIT - 1)
        case "monotonic" | "boottime":
            fields[f"{name}_s"] = read_number(text, f"--{name}", least=-(2**63), most=2**63 - 1)


def _read_range(text: str) -> MapRange:
    """INSIDE:OUTSIDE:COUNT, or with commas OUTSIDE,INSIDE,COUNT, as it was before util-linux 2.39."""
    if text in ("auto", "subids", "all"):
        return text  # type: ignore[return-value]
    separator = ":" if ":" in text else ","
    parts = text.split(separator)
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise InputError(f"{text!r} is no range of ids", hint="A range is INSIDE:OUTSIDE:COUNT, auto, subids or all.")
    inside, outside, count = (int(part) for part in parts)
    if separator == ",":
        inside, outside = outside, inside
    if count == 0 or max(inside, outside) + count > ID_LIMIT:
        raise InputError(f"the range of ids {text} is empty, or goes beyond {ID_LIMIT - 1}")
    return IdRange(inside, outside, count)
