"""Where control groups can be made: in v1, in v2, in both, inside containers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from jubako.kernel.group_places import GroupPlace, find_group_places
from jubako.kernel.mount_table import Mount, parse_mountinfo

CLASSIC = "".join(
    f"{number} 1 0:{number} {{root}} /cg/{name} {{options}} - cgroup cgroup rw,{name}\n"
    for number, name in enumerate(("cpu,cpuacct", "memory", "pids", "devices"), start=40)
)
UNIFIED = "50 1 0:50 {root} /cg/unified rw - cgroup2 cgroup2 rw\n"


def table(text: str, root: str = "/", options: str = "rw") -> list[Mount]:
    return list(parse_mountinfo(text.format(root=root, options=options)))


def nothing(_path: str) -> str:
    return ""


def anywhere(_directory: str) -> bool:
    return True


def reader(files: Mapping[str, str]) -> Callable[[str], str]:
    return lambda path: files.get(path, "")


def test_each_controller_of_v1_is_below_our_own_group_in_its_tree() -> None:
    own = "3:memory:/user/me\n2:cpu,cpuacct:/\n4:pids:/p\n5:devices:/d\n"
    assert find_group_places(table(CLASSIC), own, nothing, anywhere) == (
        GroupPlace(1, "/cg/cpu,cpuacct", ("cpu", "cpuacct")),
        GroupPlace(1, "/cg/memory/user/me", ("memory",)),
        GroupPlace(1, "/cg/pids/p", ("pids",)),
    )


def test_v1_group_that_may_not_be_written_to_is_no_place() -> None:
    own = "3:memory:/user/me\n4:pids:/p\n"
    places = find_group_places(table(CLASSIC), own, nothing, lambda directory: "pids" in directory)
    assert places == (GroupPlace(1, "/cg/pids/p", ("pids",)),)


def test_container_that_shows_its_own_part_of_a_tree_has_the_place_there() -> None:
    own = "3:memory:/docker/abc/inner\n"
    assert find_group_places(table(CLASSIC, root="/docker/abc"), own, nothing, anywhere) == (
        GroupPlace(1, "/cg/memory/inner", ("memory",)),
    )


@pytest.mark.parametrize("path", ["/docker/abcd", "/../other", "/"])
def test_group_that_a_mount_does_not_show_is_no_place(path: str) -> None:
    assert find_group_places(table(CLASSIC, root="/docker/abc"), f"3:memory:{path}\n", nothing, anywhere) == ()


def test_group_outside_of_our_cgroup_namespace_is_no_place() -> None:
    assert find_group_places(table(CLASSIC), "3:memory:/../pids/x\n", nothing, anywhere) == ()


def test_v2_group_that_hands_controllers_on_is_the_place() -> None:
    read = reader({"/cg/unified/a/b/cgroup.subtree_control": "cpu memory pids io\n"})
    assert find_group_places(table(UNIFIED), "0::/a/b\n", read, anywhere) == (
        GroupPlace(2, "/cg/unified/a/b", ("memory", "cpu", "pids")),
    )


def test_v2_group_with_processes_in_it_leads_to_the_nearest_above_that_hands_controllers_on() -> None:
    read = reader({"/cg/unified/a/cgroup.subtree_control": "memory pids\n", "/cg/unified/a/b/c/memory.max": "max\n"})
    assert find_group_places(table(UNIFIED), "0::/a/b/c\n", read, anywhere) == (
        GroupPlace(2, "/cg/unified/a", ("memory", "pids")),
    )


@pytest.mark.parametrize(("file", "limit"), [("memory.max", "1048576\n"), ("pids.max", "7\n"), ("cpu.max", "1 2\n")])
def test_v2_group_with_a_limit_is_not_left(file: str, limit: str) -> None:
    read = reader({"/cg/unified/a/cgroup.subtree_control": "memory\n", f"/cg/unified/a/b/{file}": limit})
    assert find_group_places(table(UNIFIED), "0::/a/b\n", read, anywhere) == (GroupPlace(2, "/cg/unified/a/b", ()),)


def test_v2_group_above_that_is_somebody_elses_is_passed_by() -> None:
    read = reader({"/cg/unified/cgroup.subtree_control": "memory\n", "/cg/unified/a/cgroup.subtree_control": "pids\n"})
    own = "0::/a/b\n"
    assert find_group_places(table(UNIFIED), own, read, lambda directory: directory.endswith("/b")) == (
        GroupPlace(2, "/cg/unified/a/b", ()),
    )
    assert find_group_places(table(UNIFIED), own, read, lambda _: False) == ()


def test_hybrid_has_places_in_both_each_controller_once() -> None:
    own = "3:memory:/m\n0::/u\n"
    assert find_group_places(table(CLASSIC + UNIFIED), own, nothing, anywhere) == (
        GroupPlace(1, "/cg/memory/m", ("memory",)),
        GroupPlace(2, "/cg/unified/u", ()),
    )


def test_tree_that_is_mounted_twice_is_one_place() -> None:
    text = "40 1 0:40 / /cg/memory rw - cgroup cgroup rw,memory\n41 1 0:40 / /again rw - cgroup cgroup rw,memory\n"
    assert find_group_places(table(text), "3:memory:/\n", nothing, anywhere) == (
        GroupPlace(1, "/cg/memory", ("memory",)),
    )
