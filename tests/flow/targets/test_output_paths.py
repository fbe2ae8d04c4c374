"""Clashing outputs, against the quadratic obvious check."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from jubako.flow.targets.output_paths import Clash, OutputPaths

_paths = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


def clash(a: str, b: str) -> bool:
    return a == b or a.startswith(b + "/") or b.startswith(a + "/")


@given(st.lists(_paths, max_size=8))
def test_add_finds_a_clash_exactly_when_there_is_one(paths: list[str]) -> None:
    known: OutputPaths[int] = OutputPaths()
    for number, path in enumerate(paths):
        found = known.add(path, number)
        expected = {other for other in paths[:number] if clash(path, other)}
        assert (found is not None) == bool(expected)
        if found is not None:
            assert found.other_path in expected and found.other != number
            return


def test_same_task_may_name_a_path_twice_but_not_nest() -> None:
    known: OutputPaths[str] = OutputPaths()
    assert known.add("/x/a", "T()") is None
    assert known.add("/x/a", "T()") is None
    found = known.add("/x/a/b", "T()")
    assert found is not None
    assert found.describe() == "T() makes both /x/a and /x/a/b, which is inside it"


def test_describe_names_both_tasks_and_which_is_inside() -> None:
    assert Clash("/x", "T(2)", "/x", "T(1)").describe() == "T(1) and T(2) both make /x"
    assert Clash("/x/y", "T(2)", "/x", "T(1)").describe() == "T(1) makes /x, and T(2) makes /x/y inside it"
    assert Clash("/x", "T(2)", "/x/y", "T(1)").describe() == "T(2) makes /x, and T(1) makes /x/y inside it"


def test_root_directory_is_looked_at_too() -> None:
    known: OutputPaths[int] = OutputPaths()
    assert known.add("/", 1) is None
    found = known.add("/a", 2)
    assert found is not None and found.other_path == os.sep
