from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.kernel.capabilities import last_capability, read_capability_sets
from jubako.kernel.idmap import (
    IdRange,
    SubordinateRange,
    enter_user_namespace,
    forbid_user_namespaces,
    format_id_map,
    parse_id_map,
    parse_subordinate_ids,
    read_id_map,
    write_self_map,
)
from jubako.kernel.namespaces import CLONE_NEWNS

if TYPE_CHECKING:
    from tests.conftest import Runner

IDS = st.integers(0, 2**32 - 1)


@given(st.lists(st.builds(IdRange, IDS, IDS, IDS)).map(tuple))
def test_parse_after_format_gives_the_ranges_back(ranges: tuple[IdRange, ...]) -> None:
    assert parse_id_map(format_id_map(ranges)) == ranges


def test_parse_reads_the_kernels_columns() -> None:
    assert parse_id_map("         0       1000          1\n") == (IdRange(0, 1000, 1),)


@pytest.mark.parametrize("text", ["0 0", "a b c", "1 2 3 4"])
def test_parse_of_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        parse_id_map(text)


def test_subordinate_ids_skip_what_is_none() -> None:
    text = "# lent\nada:100000:65536\n\nbroken\n1001:5:x\n:1:2\n 1002:7:1 \n"
    assert parse_subordinate_ids(text) == (SubordinateRange("ada", 100000, 65536), SubordinateRange("1002", 7, 1))


@pytest.mark.box
def test_enter_user_namespace_keeps_ids_and_gains_all_capabilities(in_user_child: Runner) -> None:
    def enter() -> tuple[tuple[int, int], tuple[int, int], tuple[IdRange, ...], bool, bool]:
        before = os.geteuid(), os.getegid()
        enter_user_namespace(CLONE_NEWNS)
        full = (1 << (last_capability() + 1)) - 1
        with open("/proc/self/setgroups", encoding="utf-8") as file:
            denied = file.read() == "deny\n"
        sets = read_capability_sets()
        return before, (os.geteuid(), os.getegid()), read_id_map("uid"), denied, sets.effective == full

    before, after, uid_map, denied, is_full = in_user_child(enter)
    assert before == after
    assert uid_map == (IdRange(before[0], before[0], 1),)
    assert denied
    assert is_full


@pytest.mark.box
def test_write_self_map_a_second_time_is_refused(in_user_child: Runner) -> None:
    def again() -> str:
        enter_user_namespace()
        with pytest.raises(PermissionError) as caught:
            write_self_map(os.geteuid(), os.getegid())
        return str(caught.value.filename)

    # After the maps are written, setgroups can be denied no more.
    assert in_user_child(again).startswith("/proc/self/")


@pytest.mark.box
def test_enter_user_namespace_as_root_maps_this_user_to_uid_0(in_user_child: Runner) -> None:
    def enter() -> tuple[int, int, int, tuple[IdRange, ...]]:
        before = os.geteuid()
        enter_user_namespace(as_root=True)
        return before, os.geteuid(), os.getegid(), read_id_map("uid")

    before, uid, gid, uid_map = in_user_child(enter)
    assert (uid, gid) == (0, 0)
    assert uid_map == (IdRange(0, before, 1),)


@pytest.mark.box
def test_user_namespaces_can_be_forbidden_in_one_of_ones_own_for_good(in_user_child: Runner) -> None:
    def forbid() -> int | None:
        enter_user_namespace()
        forbid_user_namespaces()
        try:
            enter_user_namespace()
        except OSError as error:
            return error.errno
        return None

    assert in_user_child(forbid) == errno.ENOSPC
