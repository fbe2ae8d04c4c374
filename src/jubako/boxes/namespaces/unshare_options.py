"""What a program in new namespaces may be given: the options of unshare(1), as a value. Pure."""

from __future__ import annotations

from jubako.records import field, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal, TypeAlias

    from jubako.boxes.namespaces.kinds import KindName
    from jubako.kernel.idmap import IdRange

__all__ = ["MapRange", "Unshare"]

MapRange: TypeAlias = "IdRange | Literal['auto', 'subids', 'all']"


@record(kw_only=True)
class Unshare:
    """New namespaces, and what is done in them before the program starts. Each field is the option of its name.

    Some imply others, as in unshare(1): an id map implies a user namespace, `mount_proc` a mount namespace,
    `kill_child` a fork, `load_interp` that binfmt_misc is mounted, and that on its usual place a proc. Relative paths
    mean what they mean when the step that uses them is done.
    """

    new: Sequence[KindName] = ()
    persist: Mapping[KindName, str] = field(default_factory=dict)  # the existing file each is bound to
    fork: bool = False
    forward_signals: bool = False  # SIGINT and SIGTERM go to the program
    kill_child: int | None = None  # the signal that the program gets when the process that waits for it dies

    map_user: int | None = None  # what the caller's uid is inside
    map_group: int | None = None
    map_users: Sequence[
        MapRange
    ] = ()  # "auto" and "subids": the caller's first range in /etc/subuid, from 0 or as it is
    map_groups: Sequence[MapRange] = ()
    setgroups: Literal["allow", "deny"] | None = None
    keep_caps: bool = False
    owner: tuple[int, int] | None = None  # the uid and gid that own the user namespace

    propagation: Literal["private", "shared", "slave", "unchanged"] = "private"
    mount_proc: str | None = None
    mount_binfmt: str | None = None
    load_interp: str | None = None  # ":name:type:offset:magic:mask:interpreter:flags"
    root: str | None = None
    directory: str | None = None  # with `root`, a path in that
    uid: int | None = None
    gid: int | None = None
    monotonic_s: int | None = None
    boottime_s: int | None = None
    clear_env: bool = False
    whitelist_env: Sequence[str] = ()  # all other variables are cleared
