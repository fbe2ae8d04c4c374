"""A box as JSON and back: any field of it, those to come too."""

from __future__ import annotations

import json

import pytest

from jubako.boxes.limits import Limits
from jubako.boxes.living.saved_box import box_from_json, box_to_json
from jubako.boxes.mounts import Bind, IdMap, Tmpfs
from jubako.boxes.spec import Box, Host


def test_box_comes_back_as_it_was_with_every_field_it_has() -> None:
    box = Box(
        Host(whole=True),
        binds=["/a"],
        network="none",
        capabilities=["CAP_CHOWN"],
        limits=Limits(memory_bytes=1 << 30, wall_s=1.5),
        mounts=[
            Bind("/a", "/b", read_only=True),
            Tmpfs("/c"),
            Bind("/d", "/e", idmap=IdMap(uids=[(0, 1, 2), (5, 9, 1)])),
            Bind("/f", "/g", idmap="root"),
        ],
        environment=[("A", "1"), ("B", "\udcff")],
        hostname="boxy",
        user="1:2",
    )
    saved = json.loads(json.dumps(box_to_json(box)))
    assert box_from_json(saved) == box
    assert set(Box.__slots__) <= saved.keys()  # type: ignore[attr-defined]


def test_fields_of_another_version_are_left_out_and_missing_ones_have_defaults() -> None:
    saved = box_to_json(Box(Host(whole=True)))
    saved["to_come"] = 1
    del saved["network"]
    assert box_from_json(saved) == Box(Host(whole=True))


@pytest.mark.parametrize(
    "saved",
    [
        None,
        [],
        {"@": "os:system"},
        {"@": "jubako.boxes.spec:no_such"},
        {"@": "jubako.boxes.spec:InputError"},
        {"@": "jubako.boxes.no_such:Box"},
        {"@": "jubako.boxes.spec:Host", "whole": True},
    ],
    ids=str,
)
def test_what_is_no_box_is_refused(saved: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        box_from_json(saved)
