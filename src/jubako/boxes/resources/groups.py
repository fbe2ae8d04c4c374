"""The control groups of one box: made before its first process, joined by it, read, and removed when it has ended.

Where they are is written down first, into a file `groups` in a directory that outlives whoever makes the box (a line
for each group). So a later start can remove what a killed one has left: `sweep_groups`.
"""

from __future__ import annotations

import errno
import os
import time

from jubako.errors import HostError
from jubako.kernel.files import write_setting
from jubako.records import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.boxes.resources.plan_limits import PlannedGroup

__all__ = ["RECORD_NAME", "Readings", "join_groups", "make_groups", "read_cpu_s", "read_groups", "sweep_groups"]

RECORD_NAME = "groups"
_PAUSE_S = 0.01
_PATIENCE_S = 1.0  # a process that was killed leaves its group within milliseconds, on a busy machine later


@record
class Readings:
    """What the groups say when the box has ended; None where no controller has counted it."""

    peak_memory_bytes: int | None = None
    killed_for_memory: int = 0  # processes
    user_s: float | None = None
    system_s: float | None = None
    most_processes: int | None = None
    refused_processes: int = 0  # how often one more was refused


def make_groups(groups: Sequence[PlannedGroup], record_path: str) -> None:
    """Makes the groups and sets their limits. HostError where that fails, and then none is left."""
    if not groups:
        return
    with open(record_path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(f"{group.directory}\n" for group in groups)
    try:
        for group in groups:
            os.mkdir(group.directory)
            for setting in group.settings:
                path = f"{group.directory}/{setting.file}"
                if not setting.optional or os.path.exists(path):
                    write_setting(path, setting.value)
    except BaseException as error:
        sweep_groups(record_path)
        if isinstance(error, OSError):
            raise HostError(
                f"no control group can be made for the box: {error}",
                hint="A group that is set lower lies above it, or there are as many as there may be "
                "(cgroup.max.descendants). 'jubako doctor' says which control groups this machine has.",
            ) from error
        raise


def join_groups(groups: Sequence[PlannedGroup], pid: int = 0) -> None:
    """Moves a process, by default this one, into the groups; what it starts is in them, too."""
    for group in groups:
        write_setting(f"{group.directory}/cgroup.procs", str(pid))


def read_groups(groups: Sequence[PlannedGroup], own_processes: int) -> Readings:
    """What was counted; `own_processes` of those in the groups were jubako's."""
    found: dict[str, int] = {}
    for group in groups:
        for controller in group.controllers:
            found |= _READ[controller](group) if controller in _READ else {}
        if group.version == 2 or "cpuacct" in group.controllers:
            found |= {name: value for name, value in _read_account(group).items() if name not in found}
    peak = found.get("most_processes")
    return Readings(
        peak_memory_bytes=found.get("peak_memory"),
        killed_for_memory=found.get("oom_kill", 0),
        user_s=found["user_us"] / 1e6 if "user_us" in found else None,
        system_s=found["system_us"] / 1e6 if "system_us" in found else None,
        most_processes=None if peak is None else max(0, peak - own_processes),
        refused_processes=found.get("refused", 0),
    )


def read_cpu_s(groups: Sequence[PlannedGroup]) -> float:
    """Seconds of processors used so far by all that is, or was, in the groups."""
    readings = read_groups([group for group in groups if group.version == 2 or "cpuacct" in group.controllers], 0)
    return (readings.user_s or 0.0) + (readings.system_s or 0.0)


def sweep_groups(record_path: str) -> bool:
    """Removes the groups that `record_path` names, and then it; False if somebody is still in one. Repeatable."""
    try:
        with open(record_path, encoding="utf-8", errors="surrogateescape") as file:
            directories = file.read().splitlines()
    except FileNotFoundError:
        return True
    give_up_at = time.monotonic() + _PATIENCE_S
    left = [directory for directory in directories if "/jubako-" in directory and not _remove(directory, give_up_at)]
    if left:
        return False
    os.unlink(record_path)
    return True


def _remove(directory: str, give_up_at: float) -> bool:
    while True:
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > give_up_at:
                return False
            time.sleep(_PAUSE_S)  # the last process of it is about to be gone, of which the kernel tells nobody
        else:
            return True


def _read_memory(group: PlannedGroup) -> dict[str, int]:
    if group.version == 2:
        peak, events = "memory.peak", "memory.events"
    else:
        peak, events = "memory.max_usage_in_bytes", "memory.oom_control"
    found = {"oom_kill": _read_fields(f"{group.directory}/{events}").get("oom_kill", 0)}
    return found | _read_number(f"{group.directory}/{peak}", "peak_memory")


def _read_pids(group: PlannedGroup) -> dict[str, int]:
    refused = _read_fields(f"{group.directory}/pids.events").get("max", 0)
    return {"refused": refused} | _read_number(f"{group.directory}/pids.peak", "most_processes")


def _read_account(group: PlannedGroup) -> dict[str, int]:
    if group.version == 2:
        fields = _read_fields(f"{group.directory}/cpu.stat")
        return {"user_us": fields.get("user_usec", 0), "system_us": fields.get("system_usec", 0)}
    found = _read_number(f"{group.directory}/cpuacct.usage_user", "user_us")
    found |= _read_number(f"{group.directory}/cpuacct.usage_sys", "system_us")
    return {name: value // 1000 for name, value in found.items()}  # nanoseconds there


def _read_number(path: str, name: str) -> dict[str, int]:
    """The number in a file, by a name; nothing from a kernel that lacks it."""
    try:
        with open(path, encoding="utf-8") as file:
            return {name: int(file.read())}
    except FileNotFoundError:
        return {}


def _read_fields(path: str) -> dict[str, int]:
    """The lines "name number" of a file."""
    try:
        with open(path, encoding="utf-8") as file:
            return {name: int(value) for name, value in (line.split() for line in file)}
    except FileNotFoundError:
        return {}


_READ = {"memory": _read_memory, "pids": _read_pids}
