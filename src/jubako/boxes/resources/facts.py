"""What the planner of limits must know about this machine, read once and kept as values. Nothing here decides."""

from __future__ import annotations

import os
import resource

from jubako.boxes.resources.plan_limits import LimitFacts
from jubako.kernel.group_places import read_group_places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from jubako.kernel.mount_table import Mount

__all__ = ["read_limit_facts"]

_WHOLE_MAP = ["0", "0", "4294967295"]


def read_limit_facts(
    mounts: Sequence[Mount], *, own_user_namespace: bool, own_processes: int, own_counted: int
) -> LimitFacts:
    """The facts for a box made by this process, in which jubako's own processes are so many, too."""
    with open("/proc/self/uid_map", encoding="utf-8") as file:
        is_first = file.read().split() == _WHOLE_MAP
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return LimitFacts(
        places=read_group_places(mounts),
        is_first_root=is_first and os.getuid() == 0 and not own_user_namespace,
        own_user_namespace=own_user_namespace,
        counts_by_namespace=_release() >= (5, 14),
        own_processes=own_processes,
        own_counted=own_counted,
        files_at_most=hard if hard != resource.RLIM_INFINITY else 1 << 30,
        processors=len(os.sched_getaffinity(0)),
    )


def _release() -> tuple[int, ...]:
    numbers = os.uname().release.split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())
