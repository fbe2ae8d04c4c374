"""What `jubako nsenter` takes and does. Needs no click. The options and their meaning are nsenter(1)'s."""

from __future__ import annotations

from jubako.boxes.namespaces.enter import enter_and_execute
from jubako.boxes.namespaces.enter_options import OF_TARGET, Enter
from jubako.boxes.namespaces.kinds import KINDS
from jubako.boxes.namespaces.plan_id_map import ID_LIMIT
from jubako.cli.getopt_line import Switch, read_switches
from jubako.cli.namespace_line import finish_like_util_linux, read_number
from jubako.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["SWITCHES", "parse_nsenter", "run_nsenter"]

SWITCHES = (
    Switch("a", "all", "enter all namespaces of the target"),
    Switch("t", "target", "the process whose namespaces to enter", "value", "PID"),
    Switch("m", "mount", "enter the mount namespace", "attached", "FILE"),
    Switch("u", "uts", "enter the UTS namespace", "attached", "FILE"),
    Switch("i", "ipc", "enter the IPC namespace", "attached", "FILE"),
    Switch("n", "net", "enter the network namespace", "attached", "FILE"),
    Switch("N", "net-socket", "enter that of the target's socket", "value", "FD"),
    Switch("p", "pid", "enter the pid namespace", "attached", "FILE"),
    Switch("C", "cgroup", "enter the cgroup namespace", "attached", "FILE"),
    Switch("U", "user", "enter the user namespace", "attached", "FILE"),
    Switch("", "user-parent", "enter the one that owns the others"),
    Switch("T", "time", "enter the time namespace", "attached", "FILE"),
    Switch("S", "setuid", "set the user id inside", "value", "UID|follow"),
    Switch("G", "setgid", "set the group id, drop groups", "value", "GID|follow"),
    Switch("", "preserve-credentials", "leave ids as they are"),
    Switch("", "keep-caps", "CMD has the capabilities too"),
    Switch("r", "root", "the target's root, or DIR", "attached", "DIR"),
    Switch("w", "wd", "the target's working directory", "attached", "DIR"),
    Switch("W", "wdns", "a working directory inside", "attached", "DIR"),
    Switch("e", "env", "the target's environment"),
    Switch("F", "no-fork", "no child for a pid namespace"),
    Switch("c", "join-cgroup", "join the target's control group"),
    Switch("Z", "follow-context", "the target's SELinux context"),
    Switch("h", "help", ""),
    Switch("V", "version", "show this, or the version"),
)
_MAX_PID = 2**22
_FLAGS = {
    "all": "all_kinds",
    "user-parent": "parent_of_user",
    "preserve-credentials": "preserve_credentials",
    "keep-caps": "keep_caps",
    "env": "environment_of_target",
    "join-cgroup": "join_cgroup",
    "follow-context": "follow_context",
}


def run_nsenter(words: Sequence[str]) -> int:
    """Runs a program in the namespaces of another process; its exit code."""

    def run() -> int:
        options, command = parse_nsenter(words)
        return enter_and_execute(command, options)

    return finish_like_util_linux(run)


def parse_nsenter(words: Sequence[str]) -> tuple[Enter, list[str]]:
    """The options on the line, and the program behind them. Raises InputError."""
    given, command = read_switches(SWITCHES, words)
    fields: dict[str, Any] = {"kinds": (), "files": {}}
    for name, value in given:
        # -m=FILE is understood as -mFILE, and an empty FILE as none
        text = value.removeprefix("=") if value else None
        if name in KINDS:
            fields["kinds"] = (*fields["kinds"], name)
            if text:
                fields["files"][name] = text
        elif name in _FLAGS:
            fields[_FLAGS[name]] = True
        elif name == "no-fork":
            fields["fork"] = False
        elif name == "target":
            if "target" in fields:
                raise InputError("--target may be given only once")
            fields["target"] = read_number(value or "", "--target", least=1, most=_MAX_PID)
        elif name in ("setuid", "setgid"):
            is_followed = value == "follow"
            number = OF_TARGET if is_followed else read_number(value or "", f"--{name}", most=ID_LIMIT - 1)
            fields[name.removeprefix("set")] = number
        elif name == "net-socket":
            fields["net_socket"] = read_number(value or "", "--net-socket", most=2**31 - 1)
        elif name == "wdns":
            fields["directory_inside"] = text
        elif name in ("root", "wd"):
            fields["directory" if name == "wd" else "root"] = text or OF_TARGET
    return Enter(**fields), command
