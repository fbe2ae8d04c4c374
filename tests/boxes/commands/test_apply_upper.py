"""Applying upper directories and merging layers: what arrives, all or nothing, and what is refused. In namespaces where
overlays can be mounted, as root and as an ordinary user."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.layers.test_diff import is_real_root, perform, snapshot
from tests.layers.test_upper import FOLLOWED, FORMS, PLAIN, marked, plant_layers, stacked

from jubako.boxes.commands.apply_upper import apply_upper, merge_layers
from jubako.boxes.state import StateRoot, open_state_root
from jubako.errors import ConflictError, HostError, InputError
from jubako.kernel.mounts import MS_BIND, mount
from jubako.layers.flatten import flatten

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box


def state() -> StateRoot:
    return open_state_root(f"{os.getcwd()}/state")


def shown(top: str) -> dict[str, object]:
    return {path: seen[:2] for path, seen in snapshot(top).items()}


@pytest.mark.parametrize("options", [PLAIN, FOLLOWED], ids=["plain", "redirects"])
def test_applied_upper_makes_a_directory_what_the_overlay_showed(
    in_namespace: Runner, options: tuple[tuple[str, str], ...]
) -> None:
    def act() -> None:
        if options != PLAIN and not is_real_root():
            return
        plant_layers()
        with stacked(os.getcwd(), ["2", "1"], "up", options) as merged:
            steps = [
                ("write", "dir/x", b"other"),
                ("remove", "plain", None),
                ("move", "dir/z", "old/z"),
                ("again", "old", None),
                ("mkdir", "new", None),
                ("write", "new/file", b"n"),
                ("chmod", "dir", 0o700),
                *([("move", "dir", "moved")] if options != PLAIN else []),
            ]
            perform(merged, steps)
            expected = shown(merged)
        flatten(["2", "1"], "target")
        os.chmod("target", os.stat("up").st_mode & 0o777)
        committed = apply_upper("up", "target", ["2", "1"], userxattr=not is_real_root(), state=state())
        assert shown("target") == expected
        assert committed.plan.published
        assert (os.listdir("state/boxes"), os.listdir("state/stage")) == ([], [])

    in_namespace(act)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_mark_is_applied(in_namespace: Runner, form: str) -> None:
    def act() -> tuple[list[str], list[str]]:
        os.umask(0o022)
        plant_layers()
        FORMS[form][0]()
        for name in ("target", "flat"):
            flatten(["2", "1"] if name == "target" else ["upper", "2", "1"], name)
        apply_upper("upper", "target", userxattr=not is_real_root(), state=state())
        return files("target"), files("flat")

    target, flat = in_namespace(act)
    assert target == flat


def files(top: str) -> list[str]:
    return sorted(
        f"{path.relative_to(top)} {stat.filemode(path.lstat().st_mode)} {path.read_text() if path.is_file() else ''}"
        for path in Path(top).rglob("*")
    )


def test_applying_again_changes_nothing_and_leaves_the_upper_as_it_is(in_namespace: Runner) -> None:
    def act() -> tuple[int, int, list[str]]:
        os.makedirs("upper/dir")
        os.mkdir("target")
        Path("upper/dir/file").write_text("x")
        first = apply_upper("upper", "target", state=state())
        Path("target/dir/file").write_text("y")  # another file than the upper's
        Path("target/dir/file").write_text("x")
        os.utime("target/dir/file", ns=(0, os.stat("upper/dir/file").st_mtime_ns))
        second = apply_upper("upper", "target", state=state())
        return len(first.plan.published), len(second.plan.published), files("upper")

    first, second, upper = in_namespace(act)
    assert (first, second) == (2, 0)
    assert [line.split()[0] for line in upper] == ["dir", "dir/file"]


def test_mounted_upper_and_missing_directories_are_refused(in_namespace: Runner) -> None:
    def act() -> list[str]:
        said = []
        os.mkdir("1")
        with stacked(os.getcwd(), ["1"], "up", PLAIN):
            with pytest.raises(ConflictError) as conflict:
                apply_upper("up", "1", state=state())
            said.append(conflict.value.message)
        for act in (
            lambda: apply_upper("nowhere", "1", state=state()),
            lambda: merge_layers(["1", "nowhere"], "new"),
            lambda: merge_layers(["1"], "up"),
            lambda: merge_layers([], "new"),
        ):
            with pytest.raises(InputError) as refused:
                act()
            said.append(refused.value.message)
        return said

    assert in_namespace(act) == [
        "up is the upper directory of an overlay that is mounted",
        "nowhere: no such directory",
        "nowhere: no such directory",
        "up is there already",
        "there are no layers to merge",
    ]


def test_what_cannot_be_applied_whole_is_not_applied_at_all(in_namespace: Runner) -> None:
    def act() -> tuple[list[str], list[str]]:
        for folder in ("upper/dir", "target/dir", "elsewhere"):
            os.makedirs(folder)
        for name in ("a", "dir/b"):
            Path(f"upper/{name}").write_text("new")
            Path(f"target/{name}").write_text("old")
        Path("elsewhere/file").touch()
        mount("elsewhere/file", "target/dir/b", flags=MS_BIND)  # nothing can be renamed onto a mount point
        with pytest.raises((HostError, ConflictError)):
            apply_upper("upper", "target", state=state())
        return [line.split()[-1] for line in files("target") if line.startswith("a ")], os.listdir("state/stage")

    assert in_namespace(act) == (["old"], [])


def test_merged_layer_lies_over_others_as_its_parts_did(in_namespace: Runner) -> None:
    def act() -> None:
        os.makedirs("1/dir")
        for path in ("1/gone", "1/dir/x", "1/kept"):
            Path(path).write_text(path)
        with stacked(os.getcwd(), ["1"], "2", PLAIN) as merged:
            perform(merged, [("remove", "gone", None), ("again", "dir", None), ("write", "new", b"2")])
        with stacked(os.getcwd(), ["2", "1"], "3", PLAIN) as merged:
            perform(merged, [("append", "new", b"3"), ("write", "dir/y", b"y"), ("write", "gone", b"back")])
            expected = shown(merged)
        assert merge_layers(["3", "2"], "both", keep_marks=True, userxattr=not is_real_root()) == ()
        assert merge_layers(["3", "2", "1"], "flat") == ()
        assert shown("flat") == expected
        with stacked(os.getcwd(), ["both", "1"], "4", PLAIN) as merged:
            assert shown(merged) == expected
        assert not [name for name in os.listdir() if name.startswith(".jubako")]

    in_namespace(act)


def test_layer_made_by_hand_hides_what_it_lies_over(in_namespace: Runner) -> None:
    """A directory over a file needs a mark that overlayfs would have set."""

    def act() -> dict[str, object]:
        for folder in ("1/name", "2", "3/name"):
            os.makedirs(folder)
        Path("1/name/old").touch()
        os.mknod("2/name", stat.S_IFCHR)
        Path("3/name/new").touch()
        merge_layers(["3", "2"], "both", keep_marks=True, userxattr=not is_real_root())
        with stacked(os.getcwd(), ["both", "1"], "4", PLAIN) as merged:
            return dict.fromkeys(shown(merged))

    assert sorted(in_namespace(act)) == ["name", "name/new"]


def test_merge_that_fails_leaves_nothing(in_namespace: Runner) -> None:
    def act() -> list[str]:
        os.makedirs("1")
        os.makedirs("2/dir")
        Path("1/file").write_text("\\0")
        marked("1/file", metacopy=b"")
        for keep_marks in (False, True):
            with pytest.raises(HostError):
                merge_layers(["1", "2"], "new", keep_marks=keep_marks)
        return sorted(os.listdir())

    assert in_namespace(act) == ["1", "2"]
