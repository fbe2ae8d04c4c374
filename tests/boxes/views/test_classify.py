"""What a job wrote, sorted into outputs, scratch and undeclared."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jubako.boxes.views.classify import Business, sort_changes
from jubako.layers.change import Change, EntryType
from jubako.layers.entry import LETTERS

HOME = "/home/ann"
OUT = f"{HOME}/work/out/2010/x.csv"


def business(*outputs: str, folders: tuple[str, ...] = (f"{HOME}/work", HOME)) -> Business:
    return Business(outputs=outputs or (OUT,), folders=folders, home=HOME)


def added(path: str, type: EntryType = "file") -> Change:
    return Change(path, "added", type)


def folder(path: str) -> Change:
    return added(path, "directory")


def undeclared(*changes: Change, where: Business | None = None) -> list[str]:
    return [change.path for change in sort_changes(changes, where or business()).undeclared]


def test_output_its_new_folders_companions_and_temporaries_are_declared() -> None:
    assert (
        undeclared(
            folder(f"{HOME}/work/out"),
            folder(f"{HOME}/work/out/2010"),
            added(OUT),
            added(f"{OUT}-journal"),
            added(f"{OUT}-luigi-tmp-1234567890"),
            folder(f"{OUT}-luigi-tmp-55"),
            added(f"{OUT}-luigi-tmp-55/part"),
        )
        == []
    )


def test_what_lies_below_a_directory_output_is_declared() -> None:
    assert undeclared(added("/srv/out/a/b"), folder("/srv/out/a"), where=business("/srv/out")) == []


def test_file_beside_an_output_is_undeclared() -> None:
    assert undeclared(added(f"{OUT}.bak"), added(f"{HOME}/work/out/2010/y.csv")) == [
        f"{OUT}.bak",
        f"{HOME}/work/out/2010/y.csv",
    ]


def test_changed_mode_of_a_folder_above_an_output_is_undeclared() -> None:
    change = Change(f"{HOME}/work", "metadata", "directory")
    assert undeclared(change) == [f"{HOME}/work"]


def test_caches_are_scratch_and_counted() -> None:
    found = sort_changes(
        [
            added(f"{HOME}/.cache/pip/x"),
            added(f"{HOME}/work/pkg/__pycache__/m.pyc"),
            added("/srv/lib/__pycache__/m.pyc"),
            added("/tmp/scratch"),
        ],
        business(),
    )
    assert found.undeclared == ()
    assert found.scratch == 4


def test_folder_made_only_for_scratch_is_scratch_and_an_empty_one_is_not() -> None:
    assert undeclared(folder(f"{HOME}/.config"), added(f"{HOME}/.config/matplotlib/rc"), folder(f"{HOME}/empty")) == [
        f"{HOME}/empty"
    ]


def test_folder_that_holds_scratch_and_more_is_undeclared_with_the_rest() -> None:
    assert undeclared(folder(f"{HOME}/new"), folder(f"{HOME}/new/__pycache__"), added(f"{HOME}/new/stray.txt")) == [
        f"{HOME}/new",
        f"{HOME}/new/stray.txt",
    ]


def test_declared_output_below_tmp_wins_over_scratch() -> None:
    found = sort_changes([added("/tmp/luigi-2021"), added("/tmp/other")], business("/tmp/luigi-2021"))
    assert (found.undeclared, found.scratch) == ((), 1)


def test_stray_write_beside_work_below_tmp_is_no_scratch() -> None:
    where = business("/tmp/project/out/x", folders=("/tmp/project", "/tmp"))
    assert undeclared(added("/tmp/project/stray"), added("/tmp/elsewhere"), where=where) == ["/tmp/project/stray"]


names = st.sampled_from(["a", "b", "out", "__pycache__", ".cache", "tmp"])
tree_paths = st.lists(names, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
changes = st.builds(Change, tree_paths, st.sampled_from(["added", "modified"]), st.sampled_from(list(LETTERS)))


@given(st.lists(changes, unique_by=lambda one: one.path))
def test_sorting_invents_nothing_and_never_loses_a_file(found: list[Change]) -> None:
    where = Business(outputs=("/a/out",), folders=("/a",), home="/b")
    result = sort_changes(found, where)
    assert {*result.undeclared} <= {*found}
    assert list(result.undeclared) == sorted(result.undeclared)
    lost = [one for one in found if one not in result.undeclared]
    for change in lost:
        is_scratch = "__pycache__" in change.path.split("/") or change.path.startswith(("/tmp", "/b/.cache"))
        is_output = change.path.startswith("/a/out") or "/a/out".startswith(change.path)
        is_new_folder = change.type == "directory" and change.kind == "added"
        assert is_scratch or is_output or is_new_folder
