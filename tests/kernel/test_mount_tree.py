from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.kernel.files import statx
from jubako.kernel.filesystems import tmpfs
from jubako.kernel.mount_table import Mount, find_mount, parse_mountinfo, read_mount_table
from jubako.kernel.mount_tree import arrange_mounts, find_covered, mounts_from
from jubako.kernel.mounts import attach
from jubako.kernel.syscalls import AT_FDCWD

if TYPE_CHECKING:
    from tests.conftest import Runner

# Few ids, so that circles, doubles and lost parents are met all the time.
ANY_TABLE = st.lists(
    st.builds(
        lambda own, parent, point: f"{own} {parent} 0:1 / {point} rw - tmpfs x rw",
        st.integers(1, 8),
        st.integers(0, 8),
        st.sampled_from(["/", "/a", "/a/b", "/a/b/c", "/ab"]),
    ),
    max_size=12,
).map(lambda lines: parse_mountinfo("\n".join(lines)))
POINTS = st.sampled_from(["", "/a", "/a/b", "/c"])


@st.composite
def grown_tables(draw: st.DrawFn) -> list[Mount]:
    """Tables as a kernel makes them: each mount on one that was there before, at a path that lies below its point."""
    lines = ["1 0 0:1 / / rw - tmpfs x rw"]
    points = {1: ""}
    for own in range(2, draw(st.integers(2, 9))):
        parent = draw(st.sampled_from(sorted(points)))
        points[own] = points[parent] + draw(POINTS)
        lines.append(f"{own} {parent} 0:1 / {points[own] or '/'} rw - tmpfs x rw")
    return parse_mountinfo("\n".join(draw(st.permutations(lines))))


def table_of(*mounts: str) -> list[Mount]:
    """From "id<parent:point"."""
    lines = []
    for words in mounts:
        ids, _, path = words.partition(":")
        own, _, parent = ids.partition("<")
        lines.append(f"{own} {parent} 0:{own} / {path} rw - tmpfs t{own} rw")
    return parse_mountinfo("\n".join(lines))


@given(ANY_TABLE)
def test_arranging_any_table_holds_every_mount_once(table: list[Mount]) -> None:
    arranged = [branch.mount for branch in arrange_mounts(table)]
    assert sorted(map(repr, arranged)) == sorted(map(repr, table))


@given(grown_tables())
def test_arranging_puts_parents_before_children_and_one_step_above(table: list[Mount]) -> None:
    depths = {}
    for branch in arrange_mounts(table):
        if branch.depth:
            assert branch.depth == depths[branch.mount.parent_id] + 1
        depths[branch.mount.id] = branch.depth
    assert sorted(depths.values())[0] == 0


def test_arranging_tells_who_is_the_last_of_brothers() -> None:
    table = table_of("5<1:/b", "1<0:/", "2<1:/a", "3<2:/a/b", "4<2:/a/c")
    assert [(branch.mount.id, branch.is_last) for branch in arrange_mounts(table)] == [
        (1, ()),
        (5, (False,)),
        (2, (True,)),
        (3, (True, False)),
        (4, (True, True)),
    ]


def test_arranging_a_deep_table_does_not_recurse() -> None:
    table = table_of("1<0:/", *(f"{own}<{own - 1}:/a" for own in range(2, 3000)))
    assert arrange_mounts(table)[-1].depth == 2998


@given(ANY_TABLE)
def test_looking_for_covered_mounts_ends_whatever_the_table(table: list[Mount]) -> None:
    assert find_covered(table) <= {mount.id for mount in table}


@given(grown_tables())
def test_covered_are_those_that_find_mount_does_not_end_on(table: list[Mount]) -> None:
    def ends_elsewhere(mount: Mount) -> bool:
        found = find_mount(table, mount.mount_point)
        return found is None or found.id != mount.id

    stacked = {(mount.parent_id, mount.mount_point) for mount in table}
    if len(stacked) == len(table):  # two on one place of one mount is what no kernel has
        assert find_covered(table) == {mount.id for mount in table if ends_elsewhere(mount)}


def test_mounts_from_takes_what_hangs_from_it_and_no_namesakes() -> None:
    table = table_of("3<2:/a/b", "1<0:/", "2<1:/a", "4<1:/a/b", "5<3:/a/b/c", "6<1:/ab")
    assert [mount.id for mount in mounts_from(table, 2, "/a")] == [3, 2, 5]
    assert [mount.id for mount in mounts_from(table, 1, "/a/b")] == [1, 4]
    assert [mount.id for mount in mounts_from(table, 3, "/a/b/x")] == [3]
    assert len(mounts_from(table, 1, "/")) == 6


@pytest.mark.box
def test_covered_mounts_are_those_the_kernel_does_not_walk_onto(in_namespace: Runner) -> None:
    def compare() -> tuple[set[int], set[int]]:
        os.makedirs("h/below")
        os.makedirs("s")
        attach(tmpfs(), "h/below")
        attach(tmpfs(), "h")
        attach(tmpfs(), "s")
        attach(tmpfs(), "s")
        table = [mount for mount in read_mount_table() if mount.mount_point.startswith("/mnt/")]
        unreachable = set()
        for mount in table:
            try:
                if statx(AT_FDCWD, mount.mount_point).mnt_id != mount.id:
                    unreachable.add(mount.id)
            except FileNotFoundError:
                unreachable.add(mount.id)
        covered = find_covered(read_mount_table())
        return unreachable, covered & {mount.id for mount in table}

    unreachable, covered = in_namespace(compare)
    assert len(covered) >= 2
    assert covered == unreachable
