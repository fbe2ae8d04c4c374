"""Snapshots: what a box holds at one moment, in a box of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from jubako.boxes.commands.kept_boxes import read_kept_changes
from jubako.boxes.living.living_box import find_box
from jubako.boxes.living.program import PIPE
from jubako.errors import ConflictError

if TYPE_CHECKING:
    from tests.boxes.living.conftest import Nursery

pytestmark = pytest.mark.box


def test_snapshot_of_a_running_box_is_of_one_moment_and_stays(nursery: Nursery) -> None:
    def use() -> tuple[list[str], str, str]:
        box = nursery.create(name="web")
        # Two files with one number, each replaced as a whole, one after the other: at any moment they differ by one.
        put = "put() { echo $i > new; mv new $1; }; i=0; put one; put two; echo ready;"
        counting = f"{put} while :; do i=$((i+1)); put one; put two; done"
        with box.start_program(["sh", "-c", counting], stdio=(0, PIPE, 2)) as program:
            assert program.stdout is not None
            program.stdout.readline()
            box_id = box.snapshot()
            before = nursery.read(box, "cat one")
            while nursery.read(box, "cat one") == before:  # goes on afterwards
                pass
        record, changes = read_kept_changes(box_id, nursery.desk.state)
        again = nursery.create(origins=[box_id])
        one, two = (int(nursery.read(again, f"cat {name}")) for name in ("one", "two"))
        assert 0 <= one - two <= 1
        return [os.path.basename(change.path) for change in changes], record.label, again.found.phase

    names, label, phase = nursery.do(use)
    assert {*names, "new"} == {"new", "one", "two"}
    assert (label, phase) == ("snapshot of web", "running")


def test_snapshot_with_a_name_is_a_living_box_that_can_be_started(nursery: Nursery) -> None:
    def use() -> tuple[str, str, str]:
        box = nursery.create(["sh", "-c", "echo run >> runs; sleep 1000"], name="web")
        nursery.read(box, "until [ -s runs ]; do sleep 0.01; done")
        box.snapshot("saved")
        with pytest.raises(ConflictError, match="there is a box 'saved' already"):
            box.snapshot("saved")
        saved = find_box("saved", nursery.desk.state)
        phase = saved.found.phase
        saved.start()
        nursery.read(saved, "until [ $(wc -l < runs) = 2 ]; do sleep 0.01; done")
        return phase, nursery.read(saved, "cat runs"), nursery.read(box, "cat runs")

    assert nursery.do(use) == ("created", "run\nrun\n", "run\n")
