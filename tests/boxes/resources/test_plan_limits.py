"""Who enforces which limit: groups of either version, resource limits, the watch; and what is refused."""

from __future__ import annotations

import pytest

from jubako.boxes.limits import Limits
from jubako.boxes.resources.plan_limits import (
    LimitFacts,
    PlannedGroup,
    ResourceLimit,
    Setting,
    plan_limits,
)
from jubako.errors import HostError
from jubako.kernel.group_places import GroupPlace

MB = 1 << 20
ALL = Limits(memory_bytes=64 * MB, cpus=1.5, pids=20, files=64, wall_s=9, cpu_s=2.5, disk_bytes=MB)
V1 = (
    GroupPlace(1, "/cg/memory", ("memory",)),
    GroupPlace(1, "/cg/cpu", ("cpu", "cpuacct")),
    GroupPlace(1, "/cg/pids", ("pids",)),
)
V2 = (GroupPlace(2, "/cg/u", ("memory", "cpu", "pids")),)


def test_limits_by_groups_v1_are_one_group_in_each_tree() -> None:
    plan = plan_limits(ALL, LimitFacts(V1, is_first_root=True, files_at_most=1024, processors=4), "box")
    assert plan.groups == (
        PlannedGroup(
            1,
            "/cg/memory/box",
            ("memory",),
            (
                Setting("memory.limit_in_bytes", str(64 * MB)),
                Setting("memory.memsw.limit_in_bytes", str(64 * MB), optional=True),
            ),
        ),
        PlannedGroup(
            1,
            "/cg/cpu/box",
            ("cpu", "cpuacct"),
            (Setting("cpu.cfs_period_us", "100000"), Setting("cpu.cfs_quota_us", "150000")),
        ),
        PlannedGroup(1, "/cg/pids/box", ("pids",), (Setting("pids.max", "21"),)),
    )
    assert plan.resource_limits == (
        ResourceLimit("RLIMIT_NOFILE", 64, 64),
        ResourceLimit("RLIMIT_CPU", 3, 4),
        ResourceLimit("RLIMIT_FSIZE", MB, MB),
    )
    assert (plan.processors, plan.adds_up, plan.reads_account) == (None, (), True)
    assert plan.notes == (
        "memory is limited to 64 MiB by control groups v1",
        "processors are limited to 1.5 by control groups v1",
        "processes are limited to 20 by control groups v1",
        "open files are limited to 64 in each process, by RLIMIT_NOFILE",
        "processor time is limited to 2.5 s by the account of control groups v1",
        "what is written is limited to 1 MiB by looking at it again and again, and each file by RLIMIT_FSIZE",
    )


def test_limits_by_groups_v2_are_one_group() -> None:
    plan = plan_limits(ALL, LimitFacts(V2, files_at_most=1024), "box")
    (group,) = plan.groups
    assert group.directory == "/cg/u/box"
    assert group.settings == (
        Setting("memory.max", str(64 * MB)),
        Setting("memory.swap.max", "0", optional=True),
        Setting("cpu.max", "150000 100000"),
        Setting("pids.max", "21"),
    )
    assert "processes are limited to 20 by control groups v2" in plan.notes
    assert plan.reads_account


def test_limits_without_groups_are_added_up_and_bounded_in_each_process() -> None:
    facts = LimitFacts(own_user_namespace=True, own_counted=2, files_at_most=1024, processors=4)
    plan = plan_limits(ALL, facts, "box")
    assert plan.groups == ()
    assert {one.name: one.soft for one in plan.resource_limits} == {
        "RLIMIT_DATA": 64 * MB,
        "RLIMIT_NPROC": 22,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CPU": 3,
        "RLIMIT_FSIZE": MB,
    }
    assert (plan.processors, plan.adds_up, plan.reads_account) == (2, ("memory", "cpu"), False)
    assert "processes are limited to 20 by RLIMIT_NPROC, which counts those of the box" in plan.notes
    assert plan.notes[-1].startswith("no control group can be made here, which would limit memory")


def test_account_of_v2_without_controllers_still_measures_processor_time() -> None:
    plan = plan_limits(Limits(cpu_s=1), LimitFacts((GroupPlace(2, "/cg/u", ()),)), "box")
    assert plan.reads_account
    assert plan.notes == ("processor time is limited to 1 s by the account of control groups v2",)


def test_no_limits_are_groups_that_only_measure() -> None:
    plan = plan_limits(Limits(), LimitFacts(V1), "box")
    assert [group.directory for group in plan.groups] == ["/cg/memory/box", "/cg/cpu/box", "/cg/pids/box"]
    assert not any(group.settings for group in plan.groups)
    assert (plan.notes, plan.resource_limits, plan.adds_up) == ((), (), ())


def test_group_that_would_neither_limit_nor_measure_is_not_made() -> None:
    places = (
        GroupPlace(1, "/cg/cpu", ("cpu",)),
        GroupPlace(1, "/cg/cpuacct", ("cpuacct",)),
        GroupPlace(2, "/cg/u", ()),
    )
    plan = plan_limits(Limits(cpu_s=1), LimitFacts(places), "box")
    assert [group.directory for group in plan.groups] == ["/cg/cpuacct/box"]
    assert "by the account of control groups v1" in plan.notes[0]
    assert len(plan_limits(Limits(cpus=1), LimitFacts(places), "box").groups) == 2


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (LimitFacts(is_first_root=True), "RLIMIT_NPROC does not bind root"),
        (LimitFacts(counts_by_namespace=False, own_user_namespace=True), "before Linux 5.14"),
    ],
)
def test_processes_that_nobody_would_count_are_refused(facts: LimitFacts, why: str) -> None:
    with pytest.raises(HostError, match=why) as caught:
        plan_limits(Limits(pids=10), facts, "box")
    assert "pids=10" in caught.value.message
    assert caught.value.hint


def test_processes_counted_for_a_whole_user_are_said_to_be() -> None:
    plan = plan_limits(Limits(pids=10), LimitFacts(own_user_namespace=False), "box")
    assert plan.notes[0] == (
        "processes are limited to 10 by RLIMIT_NPROC, which counts all of this user's in its user namespace"
    )


def test_more_files_than_a_process_may_have_are_what_it_may_have_and_that_is_said() -> None:
    plan = plan_limits(Limits(files=5000), LimitFacts(files_at_most=1024), "box")
    assert plan.resource_limits == (ResourceLimit("RLIMIT_NOFILE", 1024, 1024),)
    assert plan.notes == (
        "open files are limited to 1024 in each process, by RLIMIT_NOFILE (5000 are more than this process may have)",
    )


def test_processors_beyond_those_there_are_stay_those() -> None:
    assert plan_limits(Limits(cpus=64), LimitFacts(processors=2), "box").processors == 2


def test_time_alone_needs_no_group_setting_and_no_note() -> None:
    plan = plan_limits(Limits(wall_s=1), LimitFacts(), "box")
    assert (plan.groups, plan.resource_limits, plan.notes) == ((), (), ())
