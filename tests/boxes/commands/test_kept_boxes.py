"""Kept boxes: looked at, entered, committed, removed; the box of a failed task, with what it had staged, too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from jubako.boxes.commands.kept_boxes import (
    commit_box,
    enter_box,
    kept_box_ids,
    kept_boxes,
    measure_box,
    read_kept_changes,
    remove_boxes,
)
from jubako.boxes.keeping.kept import hold_box
from jubako.boxes.keeping.kept_record import BoxRecord, Layer, RecordedOutput, format_created, save_record
from jubako.errors import ConflictError, InputError

pytestmark = pytest.mark.box


def keep(desk: Any, script: str) -> str:
    """The id of a kept box in which `script` ran; called at the desk."""
    with desk.run(script, keep=True) as result:
        assert result.exit_status == 0
        return str(result.id)


def tree(directory: str) -> dict[str, tuple[int, int, int]]:
    """Everything below a directory: inode, size and time of change."""
    found = {}
    for above, folders, files in os.walk(directory):
        for name in (*folders, *files):
            status = os.lstat(os.path.join(above, name))
            found[os.path.join(above, name)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def enter(desk: Any, box_id: str, script: str) -> list[str]:
    """The words that `script` prints in the kept box; called at the desk."""
    read_end, write_end = os.pipe()
    with enter_box(box_id, ["/bin/sh", "-c", script], state=desk.state, stdio=(0, write_end, write_end)):
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            return os.fsdecode(pipe.read()).split()


def test_kept_box_is_listed_with_what_it_was_for_and_its_size(desk: Any) -> None:
    def run() -> tuple[list[str], list[str], bool]:
        box_id = keep(desk, "head -c 100000 /dev/urandom > big")
        (record,) = kept_boxes(desk.state).records
        return [box_id], [record.id, record.label, record.cwd], measure_box(record, desk.state) >= 100_000

    ids, shown, is_big = desk.do(run)
    assert shown == [*ids, "/bin/sh -c 'head -c 100000 /dev/urandom > big'", str(desk.home)]
    assert is_big


def test_changes_of_a_kept_box_are_those_it_was_kept_with(desk: Any) -> None:
    def run() -> dict[str, str]:
        Path("gone").touch()
        box_id = keep(desk, "echo hi > new; rm gone")
        record, changes = read_kept_changes(box_id[:4], desk.state)
        assert record.id == box_id
        return {os.path.basename(change.path): change.kind for change in changes}

    assert desk.do(run) == {"gone": "deleted", "new": "added"}


def test_entering_shows_what_the_box_holds_and_changes_neither_it_nor_the_machine(desk: Any) -> None:
    def run() -> tuple[list[str], bool]:
        for name in ("gone", "changed"):
            Path(name).write_text("old")
        os.mkdir("remade")
        Path("remade/hidden").touch()
        box_id = keep(desk, "rm gone; echo new > changed; rm -r remade; mkdir remade; touch remade/shown; echo > x")
        directory = os.path.join(desk.state.boxes_path, box_id)
        before = tree(directory)
        words = enter(desk, box_id, "cat changed; ls . remade; echo more >> changed; rm x; touch y; pwd")
        again = enter(desk, box_id, "ls")
        assert again == ["changed", "remade", "x"]
        return words, tree(directory) == before

    words, same = desk.do(run)
    assert words == ["new", ".:", "changed", "remade", "x", "remade:", "shown", str(desk.home)]
    assert same
    assert desk.do(lambda: sorted(os.listdir())) == ["changed", "gone", "remade"]
    assert len(desk.boxes()) == 1  # the top of the visit is gone


def test_commit_of_a_path_takes_it_out_of_the_box_and_the_last_one_removes_it(desk: Any) -> None:
    def run() -> tuple[list[str], list[str], list[str]]:
        Path("gone").touch()
        box_id = keep(desk, "mkdir d; echo 1 > d/1; echo 2 > d/2; rm gone")
        commit_box(box_id, ["d/1"], state=desk.state)
        first = sorted(str(path) for path in Path().rglob("*"))
        _, left = read_kept_changes(box_id, desk.state)
        commit_box(box_id, state=desk.state)
        return first, [os.path.basename(change.path) for change in left], sorted(str(p) for p in Path().rglob("*"))

    first, left, last = desk.do(run)
    assert first == ["d", "d/1", "gone"]
    assert left == ["2", "gone"]
    assert last == ["d", "d/1", "d/2"]
    assert desk.boxes() == []


def test_commit_of_a_path_the_box_did_not_change_is_refused_by_name(desk: Any) -> None:
    def run() -> tuple[str, str]:
        box_id = keep(desk, "echo 1 > new")
        with pytest.raises(InputError) as caught:
            commit_box(box_id, ["nwe"], state=desk.state)
        return caught.value.message, caught.value.hint

    message, hint = desk.do(run)
    assert message.endswith("/nwe")
    assert "jubako box changes" in hint


def test_commit_looks_for_conflicts_afresh_and_leaves_the_box_as_it_was(desk: Any) -> None:
    def run() -> bool:
        Path("file").write_text("old")
        box_id = keep(desk, "echo box > file")
        Path("file").write_text("host")
        directory = os.path.join(desk.state.boxes_path, box_id)
        before = tree(directory)
        with pytest.raises(ConflictError, match=box_id):
            commit_box(box_id, state=desk.state)
        return tree(directory) == before and Path("file").read_text() == "host"

    assert desk.do(run)


def test_box_with_someone_in_it_is_not_removed_and_neither_are_the_others_named(desk: Any) -> None:
    def run() -> list[str]:
        one, other = keep(desk, "echo 1 > one"), keep(desk, "echo 2 > other")
        with hold_box(os.path.join(desk.state.boxes_path, one), exclusive=False):
            with pytest.raises(ConflictError, match=one):
                remove_boxes([other, one], desk.state)
            with pytest.raises(ConflictError, match=one):
                commit_box(one, state=desk.state)
        assert sorted(kept_box_ids(desk.state)) == sorted([one, other])
        return [*sorted(remove_boxes([one[:6], other, other], desk.state)), "", *sorted([one, other])]

    answer = desk.do(run)
    assert answer[:2] == answer[3:]
    assert desk.boxes() == []


def test_box_of_a_failed_task_shows_what_it_had_staged_in_its_place(desk: Any) -> None:
    def run() -> tuple[list[str], list[str], dict[str, str], bool]:
        Path("old.csv").write_text("old")
        os.mkdir("tree")
        Path("tree/before").touch()
        box_id = _make_task_box(desk)
        words = enter(
            desk, box_id, "cat old.csv new/deep.csv; ls tree; stat -c %a new; echo more >> old.csv; cat stray"
        )
        again = enter(desk, box_id, "cat old.csv")
        _, changes = read_kept_changes(box_id, desk.state)
        kinds = {os.path.relpath(change.path): change.kind for change in changes}
        commit_box(box_id, ["old.csv", "tree", "new"], state=desk.state)
        published = Path("old.csv").read_text() == "staged\n" and os.listdir("tree") == ["after"]
        return words, again, kinds, published and Path("new/deep.csv").exists()

    words, again, kinds, published = desk.do(run)
    assert words == ["staged", "deep", "after", "750", "nobody", "declared", "this"]
    assert again == ["staged"]
    assert kinds == {
        "new": "added",
        "new/deep.csv": "added",
        "old.csv": "modified",
        "stray": "added",
        "tree": "replaced",
        "tree/after": "added",
    }
    assert published


def _make_task_box(desk: Any) -> str:
    """A box as a failed task leaves one: a top over the home directory, and staged outputs beside it."""
    box_id = "3f9c01ab"
    directory = Path(desk.state.boxes_path, box_id)
    (directory / "0/upper/new").mkdir(parents=True)
    (directory / "0/upper/new").chmod(0o750)
    (directory / "0/upper/stray").write_text("nobody declared this\n")
    (directory / "0/upper/old.csv").symlink_to("/run/jubako/stage/0/0")  # where the task found its staged output
    (directory / "stage/2").mkdir(parents=True)
    (directory / "stage/0").write_text("staged\n")
    (directory / "stage/1").write_text("deep\n")
    (directory / "stage/2/after").touch()
    home = os.path.realpath(desk.home)
    started_ns = os.stat(directory / "stage/2/after").st_ctime_ns + 1
    outputs = (
        RecordedOutput(f"{home}/old.csv", "file", "stage/0"),
        RecordedOutput(f"{home}/new/deep.csv", "file", "stage/1"),
        RecordedOutput(f"{home}/tree", "directory", "stage/2"),
        RecordedOutput(f"{home}/never", "file", "stage/3"),
    )
    layers = (Layer(home, "0/upper"),)
    record = BoxRecord(
        box_id, "Day(date=2010-01-01)", format_created(started_ns), home, layers, outputs, "it failed", started_ns
    )
    save_record(str(directory), record)
    return box_id
