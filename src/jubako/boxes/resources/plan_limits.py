"""Plans who enforces which limit of a box: control groups, resource limits of processes, or jubako's own watch. Pure.

            by control groups                 where there are none, or no right
    memory  memory.max, with swap             the watch adds processes up; RLIMIT_DATA bounds each meanwhile
    cpus    cpu.max                           affinity to whole processors, which a program can undo
    pids    pids.max                          RLIMIT_NPROC; refused for root, whom it does not bind
    files                     RLIMIT_NOFILE, in each process
    cpu_s   the watch reads the account       the watch adds processes up; RLIMIT_CPU bounds each in both cases
    wall_s                    the watch
    disk    the watch measures the box's tops; RLIMIT_FSIZE bounds each file meanwhile

Every limit but time gets a note that says which it is; one that nobody would keep is refused.
"""

from __future__ import annotations

import math

from jubako.boxes.limits import Limits, format_bytes, format_seconds
from jubako.errors import HostError
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from jubako.kernel.group_places import GroupPlace

__all__ = ["LimitFacts", "LimitPlan", "PlannedGroup", "ResourceLimit", "Setting", "plan_limits"]

Added: TypeAlias = "Literal['memory', 'cpu']"

_MEASURING = ("memory", "cpuacct", "pids")
_PERIOD_US = 100_000
_ADDED_UP = "by adding its processes up again and again"


@record
class LimitFacts:
    """What the planner must know of this machine and of the processes a box starts with."""

    places: tuple[GroupPlace, ...] = ()
    is_first_root: bool = False  # uid 0 of the machine itself, whom RLIMIT_NPROC does not bind
    own_user_namespace: bool = False  # the box, or its worker, has one: processes are counted in there
    counts_by_namespace: bool = True  # RLIMIT_NPROC counts per user namespace (Linux 5.14), not per user
    own_processes: int = 1  # of jubako's in the box's group; with RLIMIT_NPROC, in its user namespace
    own_counted: int = 2
    files_at_most: int = 1 << 20  # the hard limit of this process
    processors: int = 1  # that this process may use


@record
class Setting:
    """One file of a group and what is written to it; a kernel may lack an `optional` one."""

    file: str
    value: str
    optional: bool = False


@record
class PlannedGroup:
    """A group to be made, `directory`, of version 1 or 2."""

    version: int
    directory: str
    controllers: tuple[str, ...]
    settings: tuple[Setting, ...] = ()


@record
class ResourceLimit:
    """One setrlimit(2): `name` as in Python's `resource` module."""

    name: str
    soft: int
    hard: int


@record
class LimitPlan:
    """Who enforces what. What is None is left to nobody's watch."""

    groups: tuple[PlannedGroup, ...] = ()
    resource_limits: tuple[ResourceLimit, ...] = ()
    processors: int | None = None  # affinity to as many
    notes: tuple[str, ...] = ()
    adds_up: tuple[Added, ...] = ()  # what the watch is to add up, since no group counts it
    reads_account: bool = False  # the watch is to read a group's account of processor time


def plan_limits(limits: Limits, facts: LimitFacts, name: str) -> LimitPlan:
    """The plan; `name` is that of the groups to be made. HostError for a limit that nobody here would keep."""
    settings: dict[str, list[Setting]] = {}
    versions = {controller: place.version for place in facts.places for controller in place.controllers}
    bounds: list[ResourceLimit] = []
    notes: list[str] = []
    without_groups: list[str] = []  # what groups would limit better
    adds_up: list[Added] = []
    processors = None
    accounted = _find_account(facts)

    if (memory := limits.memory_bytes) is not None:
        text = f"memory is limited to {format_bytes(memory)}"
        if "memory" in versions:
            settings["memory"] = _limit_memory(versions["memory"], memory)
            notes.append(f"{text} by control groups v{versions['memory']}")
        else:
            bounds.append(ResourceLimit("RLIMIT_DATA", memory, memory))
            adds_up.append("memory")
            without_groups.append("memory")
            notes.append(f"{text} {_ADDED_UP}, and in each process by RLIMIT_DATA")
    if (cpus := limits.cpus) is not None:
        if "cpu" in versions:
            settings["cpu"] = _limit_processors(versions["cpu"], cpus)
            notes.append(f"processors are limited to {cpus:g} by control groups v{versions['cpu']}")
        else:
            processors = min(math.ceil(cpus), facts.processors)
            without_groups.append("processors")
            notes.append(f"processors are limited to {processors} by affinity, which a program in the box can undo")
    if (pids := limits.pids) is not None:
        text = f"processes are limited to {pids}"
        if "pids" in versions:
            settings["pids"] = [Setting("pids.max", str(pids + facts.own_processes))]
            notes.append(f"{text} by control groups v{versions['pids']}")
        else:
            counted = _count_processes(facts, pids)
            bounds.append(ResourceLimit("RLIMIT_NPROC", counted, counted))
            whom = "those of the box" if facts.own_user_namespace else "all of this user's in its user namespace"
            without_groups.append("processes")
            notes.append(f"{text} by RLIMIT_NPROC, which counts {whom}")
    if (files := limits.files) is not None:
        most = min(files, facts.files_at_most)
        bounds.append(ResourceLimit("RLIMIT_NOFILE", most, most))
        lower = "" if most == files else f" ({files} are more than this process may have)"
        notes.append(f"open files are limited to {most} in each process, by RLIMIT_NOFILE{lower}")
    if (cpu_s := limits.cpu_s) is not None:
        whole = max(1, math.ceil(cpu_s))
        bounds.append(ResourceLimit("RLIMIT_CPU", whole, whole + 1))  # XCPU at the first, KILL at the second
        text = f"processor time is limited to {format_seconds(cpu_s)}"
        if accounted is not None:
            notes.append(f"{text} by the account of control groups v{accounted}")
        else:
            adds_up.append("cpu")
            without_groups.append("processor time")
            notes.append(f"{text} {_ADDED_UP}, and in each process by RLIMIT_CPU")
    if (disk := limits.disk_bytes) is not None:
        bounds.append(ResourceLimit("RLIMIT_FSIZE", disk, disk))
        notes.append(
            f"what is written is limited to {format_bytes(disk)} by looking at it again and again, and each file "
            "by RLIMIT_FSIZE"
        )
    if without_groups:
        notes.append(f"no control group can be made here, which would limit {' and '.join(without_groups)} better")
    # Moving a process into a group takes the kernel some milliseconds, so a group is made where it is of use.
    of_use = {*settings, *_MEASURING}
    groups = tuple(
        PlannedGroup(
            place.version,
            f"{place.directory}/{name}",
            place.controllers,
            tuple(setting for controller in place.controllers for setting in settings.get(controller, ())),
        )
        for place in facts.places
        if of_use.intersection(place.controllers) or (place.version == 2 == accounted)
    )
    return LimitPlan(
        groups,
        tuple(bounds),
        processors,
        tuple(notes),
        tuple(adds_up),
        reads_account=accounted is not None and cpu_s is not None,
    )


def _find_account(facts: LimitFacts) -> int | None:
    """The version of control groups that accounts for processor time: every group of v2 does."""
    versions = [place.version for place in facts.places if place.version == 2 or "cpuacct" in place.controllers]
    return min(versions, default=None)


def _limit_memory(version: int, size: int) -> list[Setting]:
    """Swap counts as memory, or a limit would say how fast a program is and not how much it uses."""
    if version == 2:
        return [Setting("memory.max", str(size)), Setting("memory.swap.max", "0", optional=True)]
    return [
        Setting("memory.limit_in_bytes", str(size)),
        Setting("memory.memsw.limit_in_bytes", str(size), optional=True),
    ]


def _limit_processors(version: int, cpus: float) -> list[Setting]:
    quota = max(1000, round(cpus * _PERIOD_US))
    if version == 2:
        return [Setting("cpu.max", f"{quota} {_PERIOD_US}")]
    return [Setting("cpu.cfs_period_us", str(_PERIOD_US)), Setting("cpu.cfs_quota_us", str(quota))]


def _count_processes(facts: LimitFacts, pids: int) -> int:
    """The RLIMIT_NPROC that leaves `pids` to the command."""
    if facts.is_first_root:
        raise HostError(
            f"pids={pids} cannot be kept: RLIMIT_NPROC does not bind root, and no control group can be made here",
            hint="Run it as an ordinary user, or where the pids controller of control groups can be written to.",
        )
    if not facts.counts_by_namespace:
        raise HostError(
            f"pids={pids} cannot be kept: before Linux 5.14 RLIMIT_NPROC counts all processes of this user, and no "
            "control group can be made here",
            hint="Have a control group delegated to you (systemd-run --user --scope), or leave the limit out.",
        )
    return pids + facts.own_counted
