"""Names of living boxes: taken once, given back, and never left with a box that is gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jubako.boxes.keeping.kept import make_box
from jubako.boxes.living.living_record import LivingRecord, save_living
from jubako.boxes.living.names import claim_name, find_named, make_up_name, release_name, validate_name
from jubako.errors import ConflictError, InputError


def make(boxes: str, name: str) -> str:
    """A box that goes by `name`, which nobody holds."""
    box_id, lock = make_box(boxes)
    claim_name(boxes, name, box_id)
    save_living(os.path.join(boxes, box_id), LivingRecord(name))
    os.close(lock)
    return box_id


def test_name_is_taken_once_and_free_when_it_was_given_back(tmp_path: Path) -> None:
    boxes = str(tmp_path)
    box_id = make(boxes, "web")
    assert find_named(boxes, "web") == box_id
    with pytest.raises(ConflictError, match=rf"there is a box 'web' already \({box_id}\)"):
        claim_name(boxes, "web", "00000000")
    release_name(boxes, "web", "00000000")  # not that one's
    assert find_named(boxes, "web") == box_id
    release_name(boxes, "web", box_id)
    assert find_named(boxes, "web") is None
    assert claim_name(boxes, "web", "00000000") == "web"


def test_name_of_a_box_that_is_being_made_is_taken_and_that_of_a_dead_one_is_free(tmp_path: Path) -> None:
    boxes = str(tmp_path)
    box_id, lock = make_box(boxes)
    claim_name(boxes, "web", box_id)
    with pytest.raises(ConflictError):
        claim_name(boxes, "web", "00000000")
    os.close(lock)  # killed before it had a record
    assert claim_name(boxes, "web", "00000000") == "web"


def test_made_up_names_can_be_said_and_avoid_those_that_are_taken(tmp_path: Path) -> None:
    name = make_up_name(bytes)
    assert name == "amber-badger"
    validate_name(make_up_name())
    made = [make_box(str(tmp_path)) for _ in range(50)]
    taken = {claim_name(str(tmp_path), "", box_id) for box_id, _ in made}
    for _, lock in made:
        os.close(lock)
    assert len(taken) == 50


@pytest.mark.parametrize("name", ["", "-x", ".x", "a b", "a/b", "ü", "x" * 64, "0123abcd"])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        validate_name(name)
    assert find_named("/nowhere", name) is None
