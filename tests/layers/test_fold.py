"""Folding layers, over real overlays: the folded upper alone shows what the whole stack showed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from tests.layers.test_diff import PROGRAMS, perform, snapshot
from tests.layers.test_upper import PLAIN, stacked

from jubako.layers.fold import fold, link_layer

if TYPE_CHECKING:
    from tests.conftest import Runner

pytestmark = pytest.mark.box


def test_folded_layers_of_random_programs_show_what_the_stack_showed(in_namespace: Runner) -> None:
    serial = iter(range(10**9))

    @settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(first=PROGRAMS, second=PROGRAMS, third=PROGRAMS)
    def examine(
        first: list[tuple[str, str, object]],
        second: list[tuple[str, str, object]],
        third: list[tuple[str, str, object]],
    ) -> None:
        root = f"{os.getcwd()}/{next(serial)}"
        os.makedirs(f"{root}/1")
        perform(f"{root}/1", first)
        with stacked(root, ["1"], "2", PLAIN) as merged:
            perform(merged, second)
            kept = snapshot(merged)
        with stacked(root, ["2", "1"], "3", PLAIN) as merged:
            perform(merged, third)
            shown = snapshot(merged)
        link_layer(f"{root}/2", f"{root}/linked")
        fold(f"{root}/3", f"{root}/linked")
        with stacked(root, ["3", "1"], "4", PLAIN) as merged:
            assert snapshot(merged) == shown
        with stacked(root, ["2", "1"], "5", PLAIN) as merged:
            assert snapshot(merged) == kept  # what was folded was a copy
        shutil.rmtree(root)

    in_namespace(examine)


def test_linked_layer_has_the_same_files(in_namespace: Runner) -> None:
    def act() -> tuple[bool, list[str]]:
        os.makedirs("1/dir")
        Path("1/dir/file").write_text("x")
        os.chmod("1/dir", 0o500)
        link_layer("1", "2")
        os.chmod("1/dir", 0o700)
        return os.path.samefile("1/dir/file", "2/dir/file"), [oct(os.stat("2/dir").st_mode & 0o777)]

    assert in_namespace(act) == (True, ["0o500"])
