"""Writing out what layers show, over real overlays: random programs on a stack, with redirects where root may have
them, held against walking the mounted view. And every form of mark, made by hand."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from tests.layers.test_diff import PROGRAMS, is_real_root, perform, snapshot
from tests.layers.test_upper import FOLLOWED, FORMS, MOVES, PLAIN, marked, plant, plant_layers, stacked

from jubako.errors import HostError
from jubako.layers.flatten import flatten, make_plain

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box

Step = tuple[str, str, object]


def opaque() -> str:
    return f"{'trusted' if is_real_root() else 'user'}.overlay.opaque"


@pytest.mark.parametrize("options", [PLAIN, FOLLOWED], ids=["plain", "redirects"])
def test_random_stacks_are_written_out_as_their_view_shows_them(
    in_namespace: Runner, options: tuple[tuple[str, str], ...]
) -> None:
    programs = PROGRAMS if options == PLAIN else MOVES
    serial = iter(range(10**9))

    @settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(first=programs, second=programs, third=programs)
    def examine(first: list[Step], second: list[Step], third: list[Step]) -> None:
        root = f"{os.getcwd()}/{next(serial)}"
        os.makedirs(f"{root}/1")
        if options != PLAIN:
            plant(f"{root}/1")
        perform(f"{root}/1", first)
        with stacked(root, ["1"], "2", options) as merged:
            perform(merged, second)
        with stacked(root, ["2", "1"], "3", options) as merged:
            perform(merged, third)
            shown = {path: seen for path, seen in snapshot(merged).items() if not stat.S_ISFIFO(seen[0])}
        flatten([f"{root}/3", f"{root}/2", f"{root}/1"], f"{root}/flat")
        assert snapshot(f"{root}/flat") == shown
        make_plain(f"{root}/3", [f"{root}/2", f"{root}/1"], f"{root}/plain", opaque=opaque())
        with stacked(root, ["plain", "2", "1"], "4", options) as merged:
            again = {path: seen for path, seen in snapshot(merged).items() if not stat.S_ISFIFO(seen[0])}
            assert again == shown
        shutil.rmtree(root)

    def act() -> None:
        if options == PLAIN or is_real_root():  # a user namespace may not have the others
            examine()

    in_namespace(act)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_mark_is_made_plain(in_namespace: Runner, form: str) -> None:
    def act() -> tuple[list[str], list[str]]:
        plant_layers()
        FORMS[form][0]()
        flatten(["upper", "2", "1"], "flat")
        make_plain("upper", ["2", "1"], "plain", opaque=opaque())
        flatten(["plain", "2", "1"], "again")
        return _files("flat"), _files("again")

    flat, again = in_namespace(act)
    assert flat == again
    expected = {
        "whiteout device": ["dir/in/y=y", "dir/x=x", "dir/z=z", "old/leaf=leaf"],
        "whiteout attribute": ["dir/in/y=y", "dir/z=z", "old/leaf=leaf", "plain=one"],
        "opaque": ["dir/x=x", "old/leaf=leaf", "plain=one"],
        "redirect": ["dir/in/y=y", "dir/x=x", "dir/z=z", "new/leaf=leaf", "new/more=12", "old/leaf=leaf", "plain=one"],
        "redirect in a renamed directory": [
            *("dir/in/y=y", "dir/x=x", "dir/z=z", "new/in/y=y", "new/sub/y=y", "new/x=x", "new/z=z", "old/leaf=leaf"),
            "plain=one",
        ],
        "metacopy": ["dir/in/y=y", "dir/x=x", "dir/z=z", "old/leaf=leaf", "plain=one"],
        "metacopy renamed": ["dir/in/y=y", "dir/x=x", "dir/z=z", "moved=one", "old/leaf=leaf", "plain=one"],
    }
    assert flat == expected[form]


def _files(top: str) -> list[str]:
    return sorted(f"{path.relative_to(top)}={path.read_text()}" for path in Path(top).rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("metacopy", "the content of .*/upper/plain is in a layer that was not named"),
        ("redirect", "upper/new was renamed"),
    ],
)
def test_what_refers_to_a_layer_that_is_not_named_is_refused(in_namespace: Runner, form: str, said: str) -> None:
    def act() -> None:
        plant_layers()
        FORMS[form][0]()
        os.mkdir("empty")
        with pytest.raises(HostError, match=said):
            make_plain("upper", ["empty"], "plain", opaque=opaque())

    in_namespace(act)


def test_privileges_and_devices_are_left_out_in_words(in_namespace: Runner) -> None:
    def act() -> tuple[tuple[str, ...], list[str], int]:
        os.mkdir("1")
        Path("1/tool").touch()
        os.chmod("1/tool", 0o4755)
        os.mkfifo("1/pipe")
        marked("1", opaque=b"y")
        return flatten(["1"], "flat"), os.listdir("flat"), os.stat("flat/tool").st_mode & 0o7777

    refused, names, mode = in_namespace(act)
    assert [line.rpartition("/")[2] for line in refused] == [
        "pipe: a named pipe, left out",
        "tool: setuid or setgid bit left out",
    ]
    assert (names, mode) == (["tool"], 0o755)
