"""Reading any upper directory over any stack, over real overlays: made by random programs, with redirects and metacopy
where root may have them, and held against what walking the view before and after shows."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.layers.test_diff import PROGRAMS, SEARCHES_FROM, Seen, below, is_real_root, perform, snapshot

from jubako.kernel.mounts import MNT_DETACH, umount2
from jubako.kernel.overlay import Overlay, mount_overlay
from jubako.layers.entry import LETTERS
from jubako.layers.upper import UpperChange, read_upper

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box

TREE_PATHS = ["a", "b", "c", "a/a", "a/b", "a/a/a", "a/a/b", "b/a", "b/b", "b/a/a", "c/a", "c/a/a", "c/a/a/a"]

# Few names, much moved about, in a tree that is there from the start: directories of the lowers are renamed often.
MOVES = st.lists(
    st.one_of(
        *[st.tuples(st.just("move"), st.sampled_from(TREE_PATHS), st.sampled_from(TREE_PATHS))] * 3,
        st.tuples(st.just("write"), st.sampled_from(TREE_PATHS), st.sampled_from([b"", b"other"])),
        st.tuples(st.just("append"), st.sampled_from(TREE_PATHS), st.just(b"more")),
        st.tuples(st.just("mkdir"), st.sampled_from(TREE_PATHS), st.none()),
        st.tuples(st.just("remove"), st.sampled_from(TREE_PATHS), st.none()),
        st.tuples(st.just("again"), st.sampled_from(TREE_PATHS), st.none()),
        st.tuples(st.just("chmod"), st.sampled_from(TREE_PATHS), st.sampled_from([0o700, 0o755])),
    ),
    max_size=10,
)
PLAIN: tuple[tuple[str, str], ...] = ()
FOLLOWED = (("redirect_dir", "on"), ("metacopy", "on"))
TYPES = {"f": stat.S_IFREG, "d": stat.S_IFDIR, "l": stat.S_IFLNK, "p": stat.S_IFIFO}


@contextlib.contextmanager
def stacked(root: str, lowers: list[str], upper: str, options: tuple[tuple[str, str], ...]) -> Iterator[str]:
    """An overlay of these directories in `root`, mounted there."""
    for name in (upper, f"{upper}-work", f"{upper}-merged"):
        os.mkdir(f"{root}/{name}")
    overlay = Overlay(
        tuple(f"{root}/{lower}" for lower in lowers),
        f"{root}/{upper}",
        f"{root}/{upper}-work",
        userxattr=not is_real_root(),
        options=options,
    )
    mount_overlay(overlay, f"{root}/{upper}-merged")
    try:
        yield f"{root}/{upper}-merged"
    finally:
        umount2(f"{root}/{upper}-merged", MNT_DETACH)


def check(changes: list[UpperChange], lower: dict[str, Seen], merged: dict[str, Seen]) -> None:
    """Applied to what the lowers show, the changes give the merged view; and none of them says more than is true."""
    result = dict(lower)
    for change in changes:
        path = change.path
        old, new = result.get(path), merged.get(path)
        if change.kind == "deleted":
            assert old is not None and new is None
            for gone in (path, *below(result, path)):
                del result[gone]
            continue
        assert new is not None
        assert change.type is not None
        assert stat.S_IFMT(new[0]) == TYPES[LETTERS[change.type]]
        assert change.size_bytes == (len(new[1]) if isinstance(new[1], bytes) else 0)
        if change.kind == "added":
            assert old is None
        elif change.kind == "modified":
            assert old is not None and old[0] == new[0] and old[1] != new[1]
        elif change.kind == "metadata":
            assert old is not None and old[:2] == new[:2] and old != new
        else:
            for gone in below(result, path):
                del result[gone]
            if change.kind == "renamed":
                assert lower[change.moved_from][:2] == new[:2]
                for inner in below(lower, change.moved_from):
                    result[path + inner.removeprefix(change.moved_from)] = lower[inner]
        result[path] = new
    assert result == merged


def plant(root: str) -> None:
    """A tree to move about in."""
    for folder in ("a/a", "b/a", "c/a/a"):
        os.makedirs(f"{root}/{folder}")
        for name in ("x", "y"):
            Path(f"{root}/{folder}/{name}").write_text(folder + name)
    Path(f"{root}/a/x").write_text("ax")


def run_examples(examples: int, options: tuple[tuple[str, str], ...]) -> None:
    programs = PROGRAMS if options == PLAIN else MOVES
    serial = iter(range(10**9))

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples < SEARCHES_FROM,  # `make soak` lets chance pick
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(first=programs, second=programs, third=programs)
    def examine(
        first: list[tuple[str, str, object]],
        second: list[tuple[str, str, object]],
        third: list[tuple[str, str, object]],
    ) -> None:
        root = f"{os.getcwd()}/{next(serial)}"
        os.makedirs(f"{root}/1")
        if options != PLAIN:
            plant(f"{root}/1")
        perform(f"{root}/1", first)
        with stacked(root, ["1"], "2", options) as merged:
            perform(merged, second)
        with stacked(root, ["2", "1"], "3", options) as merged:
            before = snapshot(merged)
            perform(merged, third)
            after = snapshot(merged)
        changes = read_upper(f"{root}/3", (f"{root}/2", f"{root}/1"))
        assert changes == sorted(changes, key=lambda change: change.path)
        check(changes, before, after)
        shutil.rmtree(root)

    examine()


@pytest.mark.parametrize("options", [PLAIN, FOLLOWED], ids=["plain", "redirects"])
def test_changes_of_random_programs_on_a_stack_equal_what_walking_both_views_finds(
    in_namespace: Runner, options: tuple[tuple[str, str], ...]
) -> None:
    def act() -> None:
        if options == PLAIN or is_real_root():  # a user namespace may not have the others
            run_examples(40, options)

    in_namespace(act)


@pytest.mark.soak
@pytest.mark.parametrize("options", [PLAIN, FOLLOWED], ids=["plain", "redirects"])
def test_changes_of_many_random_programs_on_a_stack_equal_what_walking_both_views_finds(
    in_namespace: Runner, options: tuple[tuple[str, str], ...]
) -> None:
    def act() -> None:
        if options == PLAIN or is_real_root():
            run_examples(3000, options)

    in_namespace(act)


def marked(path: str, **marks: bytes) -> None:
    """Sets overlayfs's attributes by hand, as root's overlays have them where only they can be."""
    for name, value in marks.items():
        os.setxattr(path, f"{'trusted' if is_real_root() else 'user'}.overlay.{name}", value)


def plant_layers() -> None:
    for folder in ("1/dir/in", "1/old", "2/dir", "upper/dir"):
        os.makedirs(folder)
    for file, text in (("1/plain", "one"), ("1/dir/x", "x"), ("1/dir/in/y", "y"), ("1/old/leaf", "leaf")):
        Path(file).write_text(text)
    Path("2/dir/z").write_text("z")


def renamed(path: str, source: str) -> UpperChange:
    return UpperChange(path, "renamed", "directory", moved_from=source)


def by_relative_redirect() -> None:
    os.mkdir("upper/new")
    marked("upper/new", redirect=b"old")
    Path("upper/new/leaf").write_text("leaf")
    shutil.copystat("1/old/leaf", "upper/new/leaf")
    Path("upper/new/more").write_text("12")


def by_redirect_in_a_renamed_directory() -> None:
    os.makedirs("upper/new/sub")
    marked("upper/new", redirect=b"/dir")
    marked("upper/new/sub", redirect=b"in")


def by_metacopy() -> None:
    Path("upper/plain").touch()
    os.truncate("upper/plain", 3)
    os.chmod("upper/plain", 0o600)
    marked("upper/plain", metacopy=b"")


def by_metacopy_of_what_was_renamed() -> None:
    by_metacopy()
    os.rename("upper/plain", "upper/moved")
    marked("upper/moved", redirect=b"/plain")


def by_attribute_whiteout() -> None:
    Path("upper/dir/x").touch()
    marked("upper/dir", opaque=b"x")
    marked("upper/dir/x", whiteout=b"")


def by_device_whiteout() -> None:
    os.mknod("upper/plain", stat.S_IFCHR)


def by_opaque() -> None:
    marked("upper/dir", opaque=b"y")
    Path("upper/dir/x").write_text("x")


FORMS = {
    "whiteout device": (by_device_whiteout, [UpperChange("plain", "deleted", "file", whiteout="device")]),
    "whiteout attribute": (by_attribute_whiteout, [UpperChange("dir/x", "deleted", "file", whiteout="attribute")]),
    "opaque": (
        by_opaque,
        [UpperChange("dir", "replaced", "directory", opaque=True), UpperChange("dir/x", "added", "file", 1)],
    ),
    "redirect": (by_relative_redirect, [renamed("new", "old"), UpperChange("new/more", "added", "file", 2)]),
    "redirect in a renamed directory": (
        by_redirect_in_a_renamed_directory,
        [renamed("new", "dir"), renamed("new/sub", "dir/in")],
    ),
    "metacopy": (by_metacopy, [UpperChange("plain", "metadata", "file", 3, metacopy=True)]),
    "metacopy renamed": (
        by_metacopy_of_what_was_renamed,
        [UpperChange("moved", "renamed", "file", 3, moved_from="plain", metacopy=True)],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_saying_it_is_read(in_namespace: Runner, form: str) -> None:
    make, expected = FORMS[form]

    def act() -> list[UpperChange]:
        os.umask(0o022)
        plant_layers()
        make()
        return read_upper("upper", ("2", "1"))

    assert in_namespace(act) == expected


@pytest.mark.parametrize("form", FORMS)
def test_without_lowers_the_marks_alone_say_it(in_namespace: Runner, form: str) -> None:
    make, expected = FORMS[form]

    def act() -> list[UpperChange]:
        os.umask(0o022)
        plant_layers()
        marked("upper/dir", origin=b"")
        make()
        return read_upper("upper")

    found = {change.path: change for change in in_namespace(act)}
    for change in expected:
        if change.kind in ("deleted", "renamed"):
            assert found[change.path].kind == change.kind
            assert found[change.path].whiteout == change.whiteout
            assert found[change.path].moved_from == change.moved_from
    if form == "metacopy":
        assert found["plain"] == UpperChange("plain", "metadata", "file", 3, metacopy=True)


def test_without_lowers_a_copy_is_told_from_what_is_new(in_namespace: Runner) -> None:
    def act() -> list[tuple[str, str]]:
        os.makedirs("1/dir")
        for name in ("edited", "kept", "dir/inner"):
            Path(f"1/{name}").write_text("text")
        with stacked("/mnt", ["1"], "upper", PLAIN) as merged:
            with open(f"{merged}/edited", "a") as file:
                file.write("more")
            with open(f"{merged}/dir/inner", "a") as file:
                file.write("more")
            Path(f"{merged}/new").touch()
            os.unlink(f"{merged}/kept")
        return [(change.path, change.kind) for change in read_upper("upper")]

    assert in_namespace(act) == [
        ("dir/inner", "modified"),
        ("edited", "modified"),
        ("kept", "deleted"),
        ("new", "added"),
    ]


@pytest.mark.parametrize(
    "redirect",
    [b"/../../etc", b"..", b".", b"", b"/", b"a/b", b"/dir/../../etc", b"\0", b"/nowhere", b"x" * 300, b"\xff"],
)
def test_forged_redirect_leads_nowhere_outside(in_namespace: Runner, redirect: bytes) -> None:
    def act() -> list[tuple[str, str]]:
        plant_layers()
        os.makedirs("upper/new/passwd")
        marked("upper/new", redirect=redirect)
        marked("2/dir", redirect=redirect)
        return [(change.path, change.kind) for change in read_upper("upper", ("2", "1"))]

    found = dict(in_namespace(act))
    assert found["new/passwd"] == "added"
    assert found["new"] in ("renamed", "added")


def test_any_marks_on_any_tree_are_read_without_an_error(in_namespace: Runner) -> None:
    value = st.sampled_from([b"", b"x", b"y", b"/", b"/a", b"a", b"b", b"/a/b", b"../a", b"\0\xff"])
    marks = st.lists(
        st.tuples(
            st.sampled_from(["1", "2", "upper"]),
            st.sampled_from(["", "a", "b", "a/a", "a/b", "b/a"]),
            st.sampled_from(["opaque", "redirect", "metacopy", "whiteout", "origin"]),
            value,
        ),
        max_size=8,
    )
    serial = iter(range(10**9))

    @settings(max_examples=80, deadline=None, database=None, derandomize=True)
    @given(marks=marks)
    def examine(marks: list[tuple[str, str, str, bytes]]) -> None:
        root = f"{os.getcwd()}/{next(serial)}"
        for layer in ("1", "2", "upper"):
            os.makedirs(f"{root}/{layer}/a")
            os.makedirs(f"{root}/{layer}/b/a")
            for file in ("a/a", "a/b"):
                Path(f"{root}/{layer}/{file}").touch()
        for layer, path, name, content in marks:
            marked(f"{root}/{layer}/{path}", **{name: content})
        for lowers in ((), (f"{root}/2", f"{root}/1")):
            changes = read_upper(f"{root}/upper", lowers)
            assert len({change.path for change in changes}) == len(changes)
        shutil.rmtree(root)

    in_namespace(examine)
