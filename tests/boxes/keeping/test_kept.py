"""Box directories: made locked, kept by their record, found by a prefix, removed whole, swept when their owner died."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jubako.boxes.keeping.kept import (
    find_box_id,
    hold_box,
    list_boxes,
    lock_box,
    make_box,
    read_box,
    remove_box,
    sweep_boxes,
)
from jubako.boxes.keeping.kept_record import BoxRecord, Layer, save_record
from jubako.errors import ConflictError, HostError, InputError


def keep(boxes: Path, box_id: str, created: str = "2024-01-01T00:00:00.000000Z") -> Path:
    directory = boxes / box_id
    directory.mkdir(parents=True)
    save_record(str(directory), BoxRecord(box_id, "a label", created, "/", (Layer("/", "0/upper"),)))
    return directory


def test_make_box_in_a_missing_folder_makes_a_private_directory_and_holds_it(tmp_path: Path) -> None:
    boxes = tmp_path / "state/boxes"
    box_id, fd = make_box(str(boxes))
    try:
        directory = boxes / box_id
        assert directory.stat().st_mode & 0o777 == 0o700
        with pytest.raises(ConflictError, match=box_id):
            lock_box(str(directory), exclusive=False)
    finally:
        os.close(fd)


def test_sweep_of_a_directory_whose_owner_lives_leaves_it_and_of_a_dead_one_removes_it(tmp_path: Path) -> None:
    living, fd = make_box(str(tmp_path))
    dead, dead_fd = make_box(str(tmp_path))
    os.close(dead_fd)
    kept = keep(tmp_path, "00000001")
    try:
        assert sweep_boxes(str(tmp_path)) == [dead]
        assert sorted(os.listdir(tmp_path)) == sorted([living, kept.name])
    finally:
        os.close(fd)


def test_sweep_of_a_missing_folder_does_nothing(tmp_path: Path) -> None:
    assert sweep_boxes(str(tmp_path / "none")) == []


def test_list_of_boxes_is_oldest_first_and_names_the_unreadable(tmp_path: Path) -> None:
    keep(tmp_path, "aaaaaaaa", "2024-02-01T00:00:00.000000Z")
    keep(tmp_path, "bbbbbbbb", "2024-01-01T00:00:00.000000Z")
    (keep(tmp_path, "cccccccc") / "box.json").write_text('{"version": 9}')
    (tmp_path / "not a box").mkdir()
    _, fd = make_box(str(tmp_path))
    os.close(fd)

    listed = list_boxes(str(tmp_path))

    assert [record.id for record in listed.records] == ["bbbbbbbb", "aaaaaaaa"]
    assert len(listed.unreadable) == 1
    assert "cccccccc" in listed.unreadable[0]
    assert "version 9" in listed.unreadable[0]


def test_find_box_by_a_unique_prefix_gives_the_whole_id(tmp_path: Path) -> None:
    keep(tmp_path, "3f9c01ab")
    keep(tmp_path, "3e000000")
    assert find_box_id(str(tmp_path), "3F") == "3f9c01ab"


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("3", "2 boxes: 3e000000, 3f9c01ab"),
        ("3f9c01aa", "there is no box '3f9c01aa'"),
        ("../..", "there is no box"),
        ("", "there is no box ''"),
    ],
)
def test_find_box_that_is_not_one_says_which_there_are(tmp_path: Path, wanted: str, part: str) -> None:
    keep(tmp_path, "3f9c01ab")
    keep(tmp_path, "3e000000")
    with pytest.raises(InputError) as caught:
        find_box_id(str(tmp_path), wanted)
    assert part in caught.value.message


def test_find_box_with_a_typo_suggests_the_one_meant(tmp_path: Path) -> None:
    keep(tmp_path, "3f9c01ab")
    with pytest.raises(InputError) as caught:
        find_box_id(str(tmp_path), "3f9c01ba")
    assert "Did you mean 3f9c01ab?" in caught.value.hint


def test_read_box_with_a_damaged_record_names_it_and_the_way_out(tmp_path: Path) -> None:
    (keep(tmp_path, "3f9c01ab") / "box.json").write_text("{")
    with pytest.raises(HostError) as caught:
        read_box(str(tmp_path), "3f9c01ab")
    assert "3f9c01ab" in caught.value.message
    assert "jubako box rm 3f9c01ab" in caught.value.hint


def test_two_may_look_into_a_box_but_not_while_it_is_removed(tmp_path: Path) -> None:
    directory = str(keep(tmp_path, "3f9c01ab"))
    with (
        hold_box(directory, exclusive=False),
        hold_box(directory, exclusive=False),
        pytest.raises(ConflictError, match="someone is in it"),
    ):
        lock_box(directory, exclusive=True)
    with hold_box(directory, exclusive=True), pytest.raises(ConflictError, match="committed or removed"):
        lock_box(directory, exclusive=False)


def test_lock_of_a_removed_box_says_so(tmp_path: Path) -> None:
    directory = keep(tmp_path, "3f9c01ab")
    with hold_box(str(directory), exclusive=True):
        remove_box(str(directory))
    with pytest.raises(InputError, match="3f9c01ab"):
        lock_box(str(directory), exclusive=True)
    assert list(tmp_path.iterdir()) == []
