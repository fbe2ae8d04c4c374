"""Maps of ranges with a hole, against a slow and obvious reference; and what is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.boxes.namespaces.plan_id_map import find_subordinate_range, plan_id_map
from jubako.errors import HostError, InputError
from jubako.kernel.idmap import IdRange, SubordinateRange

SMALL = st.integers(0, 12)
LENT = SubordinateRange("anna", 100, 20)


def pairs(ranges: tuple[IdRange, ...]) -> dict[int, int]:
    return {one.inside + i: one.outside + i for one in ranges for i in range(one.count)}


@given(SMALL, SMALL, st.integers(1, 12), SMALL, SMALL)
def test_single_id_makes_a_hole_in_a_range(inside: int, outside: int, count: int, single: int, own: int) -> None:
    planned = plan_id_map([IdRange(inside, outside, count)], IdRange(single, own, 1), lent=None, parent=())
    within = [id_ for id_ in range(inside, inside + count) if id_ != single]
    beyond = [id_ for id_ in range(outside, outside + count) if id_ != own]
    assert pairs(planned) == dict(zip(within, beyond, strict=False)) | {single: own}


@given(SMALL, st.integers(95, 125))
def test_auto_starts_at_zero_and_leaves_out_the_single_id(single: int, own: int) -> None:
    planned = plan_id_map(["auto"], IdRange(single, own, 1), lent=LENT, parent=())
    within = (id_ for id_ in itertools.count() if id_ != single)
    beyond = [id_ for id_ in range(100, 120) if id_ != own]
    assert pairs(planned) == dict(zip(within, beyond, strict=False)) | {single: own}


def test_auto_without_a_single_id_is_the_whole_range_from_zero() -> None:
    assert plan_id_map(["auto"], None, lent=LENT, parent=()) == (IdRange(0, 100, 20),)


def test_subids_keep_their_ids() -> None:
    assert plan_id_map(["subids"], None, lent=LENT, parent=()) == (IdRange(100, 100, 20),)


def test_all_is_what_the_parent_has_under_the_same_ids() -> None:
    parent = (IdRange(0, 1000, 1), IdRange(1, 100000, 65536))
    assert plan_id_map(["all"], None, lent=None, parent=parent) == (IdRange(0, 0, 1), IdRange(1, 1, 65536))


def test_several_ranges_are_joined_in_the_order_of_their_ids() -> None:
    ranges = [IdRange(50, 5, 2), IdRange(0, 90, 3)]
    assert plan_id_map(ranges, None, lent=None, parent=()) == (IdRange(0, 90, 3), IdRange(50, 5, 2))


@pytest.mark.parametrize(
    ("ranges", "side"),
    [
        ([IdRange(0, 100, 10), IdRange(9, 300, 5)], "9 inside"),
        ([IdRange(0, 100, 10), IdRange(50, 109, 1)], "109 outside"),
    ],
)
def test_ranges_that_share_an_id_are_refused(ranges: list[IdRange], side: str) -> None:
    with pytest.raises(InputError, match=f"share the id {side}"):
        plan_id_map(ranges, None, lent=None, parent=())


def test_more_ranges_than_the_kernel_takes_are_refused() -> None:
    ranges = [IdRange(2 * i, 2 * i, 1) for i in range(341)]
    with pytest.raises(InputError, match="341 ranges is too long"):
        plan_id_map(ranges, None, lent=None, parent=())


@pytest.mark.parametrize("owner", ["anna", "1000"])
def test_first_range_lent_by_name_or_number_is_found(owner: str) -> None:
    ranges = [SubordinateRange("bert", 1, 1), SubordinateRange(owner, 5, 2), SubordinateRange(owner, 9, 2)]
    assert find_subordinate_range(ranges, "anna", 1000, "/etc/subuid").first == 5


def test_user_to_whom_nothing_is_lent_is_told_how_to_get_it() -> None:
    with pytest.raises(HostError, match="/etc/subgid lends no ids to anna") as caught:
        find_subordinate_range([], "anna", 1000, "/etc/subgid")
    assert caught.value.hint == "As root: usermod --add-subgids 100000-165535 anna"
