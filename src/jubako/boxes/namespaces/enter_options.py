"""What a program in the namespaces of another process may be given: the options of nsenter(1), as a value. Pure."""

from __future__ import annotations

from jubako.boxes.namespaces.kinds import KINDS
from jubako.errors import InputError
from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from jubako.boxes.namespaces.kinds import KindName

__all__ = ["OF_TARGET", "Enter", "check_enter"]

OF_TARGET = "of target"


@record(kw_only=True)
class Enter:
    """Namespaces to be entered, and what is done in them before the program starts.

    `target` is the process whose namespaces `kinds` are entered, or all of them; a namespace in `files` is entered by
    its file. Entering a user namespace sets the ids to `uid` and `gid` there, 0 unless they say otherwise.
    """

    target: int | None = None
    kinds: Sequence[KindName] = ()
    all_kinds: bool = False
    files: Mapping[KindName, str] = field(default_factory=dict)
    parent_of_user: bool = False  # the user namespace is the one that owns the others
    net_socket: int | None = None  # the network namespace of this descriptor of the target
    uid: int | Literal["of target"] | None = None
    gid: int | Literal["of target"] | None = None
    preserve_credentials: bool = False
    keep_caps: bool = False
    root: str | None = None  # OF_TARGET, or a path as seen before entering
    directory: str | None = None
    directory_inside: str | None = None  # a path as seen inside
    environment_of_target: bool = False
    join_cgroup: bool = False
    follow_context: bool = False
    fork: bool | None = None  # None: if a pid namespace is entered


def check_enter(options: Enter) -> None:
    """Raises InputError, with the whole list, where options contradict each other or lack something."""
    wrong = []
    of_target = [f"--{kind}" for kind in options.kinds if kind not in options.files]
    of_target += ["--all"] if options.all_kinds else []
    of_target += ["--net-socket"] if options.net_socket is not None else []
    of_target += ["--user-parent"] if options.parent_of_user and not (options.files or options.kinds) else []
    of_target += ["--root"] if options.root == OF_TARGET else []
    of_target += ["--wd"] if options.directory == OF_TARGET else []
    of_target += ["--env"] if options.environment_of_target else []
    of_target += ["--join-cgroup"] if options.join_cgroup else []
    of_target += ["--follow-context"] if options.follow_context else []
    of_target += ["--setuid follow"] if options.uid == OF_TARGET else []
    of_target += ["--setgid follow"] if options.gid == OF_TARGET else []
    if options.target is None and of_target:
        wrong.append(f"{', '.join(of_target)}: of which process? Add --target PID, or name a file")
    if options.directory is not None and options.directory_inside is not None:
        wrong.append("--wd and --wdns exclude each other")
    if unknown := {*options.kinds, *options.files} - KINDS.keys():
        wrong.append(f"there is no namespace of the kind {', '.join(map(repr, sorted(unknown)))}")
    if wrong:
        raise InputError("; ".join(wrong))
