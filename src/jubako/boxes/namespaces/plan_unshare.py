"""From the options of `jubako unshare` to the steps to be taken, in unshare(1)'s order. Pure.

What the caller is and may do comes as a `Caller`; so every plan can be looked at without making a namespace.
"""

from __future__ import annotations

from jubako.boxes.namespaces.kinds import KINDS
from jubako.boxes.namespaces.plan_id_map import plan_id_map
from jubako.boxes.namespaces.unshare_steps import (
    BindNamespace,
    ChangeDirectory,
    ChangeRoot,
    Fork,
    KeepCapabilities,
    MakeNamespaces,
    MapIds,
    MountBinfmt,
    MountProc,
    Plan,
    RegisterFormat,
    SetClock,
    SetGid,
    Setgroups,
    SetPropagation,
    SetUid,
)
from jubako.errors import InputError
from jubako.kernel.idmap import IdRange
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jubako.boxes.namespaces.kinds import KindName
    from jubako.boxes.namespaces.unshare_options import MapRange, Unshare
    from jubako.boxes.namespaces.unshare_steps import OutsideStep, Step
    from jubako.kernel.idmap import SubordinateRange

__all__ = ["BINFMT", "Caller", "asks_for_lent_ids", "plan_unshare"]

BINFMT = "/proc/sys/fs/binfmt_misc"


@record(kw_only=True)
class Caller:
    """Who asks: the ids a map is made for, and what they may map."""

    uid: int
    gid: int
    may_write_maps: bool  # it has CAP_SETUID and CAP_SETGID, so needs no newuidmap
    lent_uids: SubordinateRange | None = None  # only where `asks_for_lent_ids`
    lent_gids: SubordinateRange | None = None
    uid_map: Sequence[IdRange] = ()
    gid_map: Sequence[IdRange] = ()


def asks_for_lent_ids(asked: Sequence[MapRange]) -> bool:
    """True if a map needs what /etc/subuid or /etc/subgid lends."""
    return "auto" in asked or "subids" in asked


def plan_unshare(options: Unshare, caller: Caller) -> Plan:
    """The steps for these options. Raises InputError, with the whole list, where they contradict each other."""
    kinds = _plan_kinds(options)
    if wrong := list(_find_contradictions(options, kinds)):
        raise InputError("; ".join(wrong))
    uid, gid = options.owner or (None, None)
    return Plan(
        before_make=tuple(_plan_ids(uid, gid)),
        make=MakeNamespaces(kinds),
        maps=_plan_maps(options, caller),
        before_fork=tuple(
            SetClock(clock, offset_s)
            for clock, offset_s in (("boottime", options.boottime_s), ("monotonic", options.monotonic_s))
            if offset_s is not None
        ),
        fork=_plan_fork(options),
        binds=tuple(BindNamespace(kind, options.persist[kind]) for kind in KINDS if kind in options.persist),
        after_fork=tuple(_plan_inside(options, caller, kinds)),
        kept_variables=tuple(options.whitelist_env) if options.clear_env or options.whitelist_env else None,
    )


def _plan_kinds(options: Unshare) -> tuple[KindName, ...]:
    wanted = {*options.new, *options.persist}
    if options.mount_proc is not None or options.mount_binfmt is not None or options.load_interp is not None:
        wanted.add("mount")
    singles = (options.map_user, options.map_group)
    of_user = (*singles, options.owner, options.mount_binfmt, options.load_interp)
    if options.map_users or options.map_groups or any(one is not None for one in of_user):
        wanted.add("user")
    if unknown := wanted - KINDS.keys():
        raise InputError(f"there is no namespace of the kind {', '.join(map(repr, sorted(unknown)))}")
    return tuple(kind for kind in KINDS if kind in wanted)


def _find_contradictions(options: Unshare, kinds: Sequence[KindName]) -> Iterator[str]:
    if "time" not in kinds and (options.monotonic_s is not None or options.boottime_s is not None):
        yield "the clocks of --monotonic and --boottime are those of a time namespace: add --time"
    if options.map_group is not None and not options.map_groups and options.setgroups == "allow":
        yield "--setgroups allow and --map-group exclude each other: one group is mapped only where setgroups is denied"
    if "pid" in options.persist and not _is_forked(options):
        yield "a pid namespace can be persistent only once there is a process in it: add --fork"
    yield from (f"--{kind} was given an empty file name" for kind, file in options.persist.items() if not file)


def _is_forked(options: Unshare) -> bool:
    return options.fork or options.forward_signals or options.kill_child is not None


def _plan_fork(options: Unshare) -> Fork | None:
    return Fork(options.kill_child, options.forward_signals) if _is_forked(options) else None


def _plan_maps(options: Unshare, caller: Caller) -> tuple[OutsideStep, ...]:
    """The maps that the process could not write itself, those of more than its own id, and what must come before."""
    maps: list[OutsideStep] = []
    if _is_mapped_outside(options.map_groups, options.map_group, options) and options.setgroups is not None:
        maps.append(Setgroups(options.setgroups))
    for kind, asked, single, outside, lent, parent in (
        ("uid", options.map_users, options.map_user, caller.uid, caller.lent_uids, caller.uid_map),
        ("gid", options.map_groups, options.map_group, caller.gid, caller.lent_gids, caller.gid_map),
    ):
        if _is_mapped_outside(asked, single, options):
            hole = None if single is None else IdRange(single, outside, 1)
            ranges = plan_id_map(asked, hole, lent=lent, parent=parent)
            maps.append(MapIds(kind, ranges, None if caller.may_write_maps else f"new{kind}map"))
    return tuple(maps)


def _is_mapped_outside(asked: Sequence[MapRange], single: int | None, options: Unshare) -> bool:
    """True if the process itself may not write the map: of more ids than its own, or after it gave that up."""
    return bool(asked) or (single is not None and options.owner is not None)


def _plan_inside(options: Unshare, caller: Caller, kinds: Sequence[KindName]) -> Iterator[Step]:
    if options.map_user is not None and not _is_mapped_outside(options.map_users, options.map_user, options):
        yield MapIds("uid", (IdRange(options.map_user, caller.uid, 1),))
    is_outside = _is_mapped_outside(options.map_groups, options.map_group, options)
    if options.map_group is not None and not is_outside:
        yield Setgroups("deny")
        yield MapIds("gid", (IdRange(options.map_group, caller.gid, 1),))
    elif options.setgroups is not None and not is_outside:
        yield Setgroups(options.setgroups)
    if "mount" in kinds and options.propagation != "unchanged":
        yield SetPropagation("/", options.propagation)
    yield from _plan_mounts(options)
    yield from _plan_ids(options.uid, options.gid)
    if options.keep_caps and "user" in kinds:
        yield KeepCapabilities()


def _plan_mounts(options: Unshare) -> Iterator[Step]:
    """The root, and what is mounted below it. An interpreter with the flag F is opened when its format is registered,
    so it is the one of the old root."""
    definition = options.load_interp
    is_early = definition is not None and options.root is not None and "F" in definition.rpartition(":")[2]
    if definition is not None and is_early:
        yield MountBinfmt(BINFMT)
        yield RegisterFormat(BINFMT, definition)
    if options.root is not None:
        yield ChangeRoot(options.root)
    if options.directory is not None or options.root is not None:
        yield ChangeDirectory(options.directory or "/")
    binfmt = options.mount_binfmt or (BINFMT if definition is not None else None)
    proc = options.mount_proc or ("/proc" if binfmt == BINFMT else None)  # which it lies below
    if proc is not None:
        if options.root is None and options.propagation != "private":
            # The proc that is covered there is the caller's: what is mounted on it must not get there.
            yield SetPropagation(proc, "private", may_be_no_mount=True)
        yield MountProc(proc)
    if binfmt is not None:
        yield MountBinfmt(binfmt)
        if definition is not None and not is_early:
            yield RegisterFormat(binfmt, definition)


def _plan_ids(uid: int | None, gid: int | None) -> Iterator[Step]:
    if gid is not None:
        yield SetGid(gid)
    if uid is not None:
        yield SetUid(uid)
