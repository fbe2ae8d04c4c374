"""How many processors this process may use: fewer than the machine has, in a container or under `taskset`."""

from __future__ import annotations

import os
from contextlib import suppress

from jubako.kernel.control_groups import describe_control_groups
from jubako.kernel.mount_table import read_mount_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["count_processors", "parse_quota"]


def count_processors() -> int:
    """At least 1: what sched_getaffinity(2) allows, and no more than the quotas of our control groups add up to."""
    allowed = len(os.sched_getaffinity(0))
    quotas = [quota for text in _read_quotas() if (quota := parse_quota(text)) is not None]
    return max(1, min([allowed, *(round(quota) for quota in quotas)]))


def parse_quota(text: str) -> float | None:
    """Processors that the text of a `cpu.max` grants, "150000 100000" being 1.5; None: as many as there are."""
    quota, _, period = text.strip().partition(" ")
    return None if quota == "max" else int(quota) / int(period)


def _read_quotas() -> Iterable[str]:
    """`cpu.max` of our control group (v2) and of those above it, as far as they can be seen."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            own = file.read()
    except FileNotFoundError:  # a kernel without them
        return
    mode, _, directory = describe_control_groups(read_mount_table(), own)
    while mode == "v2" and directory not in ("", "/"):
        # The root group has none, and so has a group without the controller.
        with suppress(FileNotFoundError), open(f"{directory}/cpu.max", encoding="ascii") as file:
            yield file.read()
        directory = os.path.dirname(directory)
