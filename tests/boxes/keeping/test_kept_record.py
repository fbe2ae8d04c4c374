"""box.json: what is written is read back, and what is damaged or hostile is refused with the reason."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jubako.boxes.keeping.kept_record import (
    BoxRecord,
    Layer,
    RecordedOutput,
    format_command,
    format_created,
    parse_record,
    save_record,
)

names = st.binary(min_size=1, max_size=8).filter(lambda raw: not set(raw) & {0, 0x2F} and raw not in (b".", b".."))
paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: os.fsdecode(b"/" + b"/".join(parts)))
records = st.builds(
    BoxRecord,
    id=st.just("3f9c01ab"),
    label=st.text(),
    created=st.just("2024-05-06T07:08:09.123456Z"),
    cwd=paths,
    layers=st.lists(st.builds(Layer, target=paths, upper=st.just("0/upper")), max_size=3).map(tuple),
    outputs=st.lists(
        st.builds(
            RecordedOutput, path=paths, kind=st.sampled_from(["file", "directory"]), staged=paths.map(lambda p: p[1:])
        ),
        max_size=3,
    ).map(tuple),
    error=st.text(),
    started_ns=st.integers(1, 2**62),
    userxattr=st.none() | st.booleans(),
)

GOOD: dict[str, Any] = {
    "version": 1,
    "id": "3f9c01ab",
    "label": "make",
    "created": "2024-05-06T07:08:09.123456Z",
    "cwd": "/",
    "layers": [{"target": "/", "upper": "0/upper"}],
}


@given(record=records)
def test_record_with_any_names_is_read_back_as_it_was_saved(
    record: BoxRecord, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("box")
    save_record(str(directory), record)
    assert parse_record((directory / "box.json").read_text()) == record
    assert os.listdir(directory) == ["box.json"]


def test_record_without_a_start_takes_the_moment_it_was_created() -> None:
    record = parse_record(json.dumps(GOOD))
    assert record.started_ns == 1714979289123456000
    assert format_created(record.started_ns) == record.created


def test_record_with_keys_of_a_later_version_is_read() -> None:
    assert parse_record(json.dumps(GOOD | {"colour": "red"})).label == "make"


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"version": 2}, "version 2"),
        ({"version": None}, "version None"),
        ({"label": None}, "'label' is not a string"),
        ({"layers": [{"target": "/"}]}, "no 'upper'"),
        ({"layers": [{"target": "etc", "upper": "0"}]}, "'target' is not an absolute"),
        ({"layers": [{"target": "/etc/../x", "upper": "0"}]}, "'target' is not an absolute"),
        ({"layers": [{"target": "/etc", "upper": "../../../etc"}]}, "'upper' leaves the box"),
        ({"layers": [{"target": "/etc", "upper": "/etc"}]}, "'upper' leaves the box"),
        ({"layers": [{"target": "/etc", "upper": "."}]}, "'upper' leaves the box"),
        ({"layers": 3}, "not iterable"),
        ({"outputs": [{"path": "/x", "kind": "pipe", "staged": "s"}]}, "neither 'file' nor 'directory'"),
        ({"created": "yesterday"}, "yesterday"),
        ({"userxattr": "no"}, "'userxattr' is neither"),
    ],
)
def test_record_that_is_damaged_or_leads_out_of_the_box_is_refused(change: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_record(json.dumps(GOOD | change))
    assert part in str(caught.value)


def test_record_that_is_not_an_object_is_refused() -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        parse_record("[1]")


def test_save_record_over_an_older_one_leaves_one_file(tmp_path: Path) -> None:
    record = parse_record(json.dumps(GOOD))
    save_record(str(tmp_path), record)
    save_record(str(tmp_path), record)
    assert [entry.name for entry in tmp_path.iterdir()] == ["box.json"]


@given(st.lists(st.text(), min_size=1))
def test_format_command_says_what_shlex_says(words: list[str]) -> None:
    assert format_command(words) == shlex.join(words)
