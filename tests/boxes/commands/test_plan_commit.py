"""Which steps publish a choice of changes: as few as do it, and never half of something that is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.boxes.commands.plan_commit import plan_commit
from jubako.boxes.views.facts import ancestors
from jubako.errors import InputError
from jubako.layers.change import Change

ADDED, MODIFIED, DELETED = "added", "modified", "deleted"
METADATA, REPLACED = "metadata", "replaced"
FILE, DIRECTORY, FIFO = "file", "directory", "fifo"


def paths(changes: tuple[Change, ...]) -> list[str]:
    return [change.path for change in changes]


def test_plan_of_a_new_directory_is_one_step_that_publishes_all_below_it() -> None:
    changes = [
        Change("/a", ADDED, DIRECTORY),
        Change("/a-b", ADDED, DIRECTORY),  # sorts between /a and what is in it
        Change("/a/x", ADDED, FILE, 1),
        Change("/a/y", ADDED, DIRECTORY),
        Change("/a/y/z", ADDED, FILE, 1),
    ]
    plan = plan_commit(changes, ["/"])
    assert paths(plan.contents) == ["/a", "/a-b"]
    assert list(plan.published) == changes


def test_plan_of_a_file_in_a_new_directory_makes_the_directory_without_the_rest() -> None:
    changes = [
        Change("/a", ADDED, DIRECTORY),
        Change("/a/b", ADDED, DIRECTORY),
        Change("/a/b/x", ADDED, FILE, 1),
        Change("/a/b/y", ADDED, FILE, 1),
    ]
    plan = plan_commit(changes, ["/a/b/x"])
    assert paths(plan.contents) == ["/a/b/x"]
    assert paths(plan.parents) == ["/a", "/a/b"]
    assert paths(plan.published) == ["/a", "/a/b", "/a/b/x"]


def test_plan_sorts_steps_by_what_they_take() -> None:
    changes = [
        Change("/d", METADATA, DIRECTORY),
        Change("/d/gone", DELETED, DIRECTORY),
        Change("/d/kept", METADATA, FILE, 3),
        Change("/d/new", MODIFIED, FILE, 3),
        Change("/d/was-a-file", REPLACED, DIRECTORY),
        Change("/d/was-a-file/x", ADDED, FILE, 3),
        Change("/e", ADDED, FILE, 3),
    ]
    plan = plan_commit(changes, ["/d"])
    assert paths(plan.metadata) == ["/d"]
    assert paths(plan.deletions) == ["/d/gone"]
    assert paths(plan.contents) == ["/d/kept", "/d/new", "/d/was-a-file"]
    assert "/e" not in paths(plan.published)


def test_plan_of_part_of_a_replaced_directory_is_refused_and_names_it() -> None:
    changes = [Change("/d", REPLACED, DIRECTORY), Change("/d/x", ADDED, FILE, 1)]
    with pytest.raises(InputError) as caught:
        plan_commit(changes, ["/d/x"])
    assert "/d/x" in caught.value.message
    assert caught.value.hint == "Commit /d."


def test_plan_of_a_named_pipe_leaves_it_out_in_words() -> None:
    plan = plan_commit([Change("/p", ADDED, FIFO)], ["/"])
    assert plan.left_out == ("/p: a fifo, left out",)
    assert plan.published == ()


names = st.sampled_from(["a", "a-", "b"])
trees = st.lists(st.lists(names, min_size=1, max_size=3).map(tuple), max_size=8)


@given(tree=trees, chosen=st.lists(names, min_size=1, max_size=3))
def test_plan_of_new_files_publishes_what_was_chosen_and_what_leads_there(
    tree: list[tuple[str, ...]], chosen: list[str]
) -> None:
    entries = {parts[:depth] for parts in tree for depth in range(1, len(parts) + 1)}
    folders = {parts[:-1] for parts in entries}
    changes = sorted(Change("/" + "/".join(parts), ADDED, DIRECTORY if parts in folders else FILE) for parts in entries)
    path = "/" + "/".join(chosen)
    plan = plan_commit(changes, [path])
    wanted = {c.path for c in changes if c.path == path or path in ancestors(c.path)}
    leading = {c.path for c in changes if wanted and c.path in ancestors(path)}
    assert {c.path for c in plan.published} == wanted | leading
    steps = {c.path for c in plan.contents}
    assert all(not steps.intersection(ancestors(step)) for step in steps)
