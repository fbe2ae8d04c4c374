from __future__ import annotations

import pytest

from jubako.kernel.control_groups import describe_control_groups, read_control_groups
from jubako.kernel.mount_table import parse_mountinfo, read_mount_table

UNIFIED = "30 1 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
UNIFIED_BESIDE = "31 1 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
MEMORY = "32 1 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
CPU = "33 1 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
OWN_V2 = "0::/user.slice/session-1.scope\n"
OWN_V1 = "4:memory:/jobs\n3:cpu,cpuacct:/\n0::/\n"


@pytest.mark.parametrize(
    ("mounts", "own", "expected"),
    [
        (UNIFIED, OWN_V2, ("v2", (), "/sys/fs/cgroup/user.slice/session-1.scope")),
        (UNIFIED, "0::/\n", ("v2", (), "/sys/fs/cgroup")),
        (MEMORY + CPU, OWN_V1, ("v1", ("cpu", "cpuacct", "memory"), "/sys/fs/cgroup/memory/jobs")),
        (UNIFIED_BESIDE + CPU, OWN_V1, ("hybrid", ("cpu", "cpuacct"), "")),
        (UNIFIED_BESIDE + MEMORY, OWN_V1, ("hybrid", ("memory",), "/sys/fs/cgroup/memory/jobs")),
        ("", "", ("none", (), "")),
    ],
)
def test_mode_controllers_and_own_group_follow_from_the_mounts(
    mounts: str, own: str, expected: tuple[str, tuple[str, ...], str]
) -> None:
    assert describe_control_groups(parse_mountinfo(mounts), own) == expected


def test_own_group_with_a_colon_in_its_name_is_kept_whole() -> None:
    _, _, directory = describe_control_groups(parse_mountinfo(UNIFIED), "0::/a:b\n")
    assert directory == "/sys/fs/cgroup/a:b"


def test_reading_this_host_finds_what_is_mounted() -> None:
    table = read_mount_table()
    groups = read_control_groups(table)
    kinds = {mount.fstype for mount in table} & {"cgroup", "cgroup2"}
    assert {"v2": {"cgroup2"}, "v1": {"cgroup"}, "hybrid": {"cgroup", "cgroup2"}, "none": set()}[groups.mode] == kinds
