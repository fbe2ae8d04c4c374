"""What code in a box is told, tried without a box: the links and frames are real."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jubako.boxes import inside
from jubako.errors import BugError

if TYPE_CHECKING:
    from tests.conftest import Runner


def test_outside_a_box_every_answer_is_no() -> None:
    assert not inside.is_inside()
    assert inside.staged_path("/any") is None
    inside.send(b"to nobody")
    with pytest.raises(BugError, match="/any is no declared output"):
        inside.expose("/any")


def test_staged_path_is_found_by_any_spelling_of_the_declared_one(in_child: Runner, tmp_path: Path) -> None:
    def ask() -> list[str | None]:
        os.chdir(tmp_path)
        inside.activate({f"{tmp_path}/out": "/stage/0"}, (), 1)
        return [inside.staged_path(one) for one in ("out", tmp_path / "out", f"{tmp_path}/x/../out", "other")]

    assert in_child(ask) == ["/stage/0", "/stage/0", "/stage/0", None]


def test_expose_makes_folders_and_a_link_and_is_repeatable(in_child: Runner, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"

    def expose() -> str:
        inside.activate({str(out): f"{tmp_path}/staged"}, (), 1)
        inside.expose(out)
        inside.expose(out)
        return os.readlink(out)

    assert in_child(expose) == f"{tmp_path}/staged"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_expose_replaces_a_file_at_once_and_never_a_directory(in_child: Runner, tmp_path: Path) -> None:
    out, folder = tmp_path / "out", tmp_path / "folder"
    out.write_text("old")
    folder.mkdir()

    def expose() -> str:
        inside.activate({str(out): "/stage/0", str(folder): "/stage/1"}, (), 1)
        inside.expose(out)
        with pytest.raises(IsADirectoryError):
            inside.expose(folder)
        return os.readlink(out)

    assert in_child(expose) == "/stage/0"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "out"]


def test_expose_where_nothing_can_be_written_shows_nothing(in_user_child: Runner) -> None:
    def expose() -> bool:
        inside.activate({"/proc/jubako/out": "/stage/0"}, (), 1)
        try:
            inside.expose("/proc/jubako/out")
        except FileNotFoundError:  # what /proc answers to making anything
            return False
        return os.path.lexists("/proc/jubako/out")

    assert in_user_child(expose) is False


def test_expose_of_a_directory_in_place_marks_it_as_written(in_child: Runner, tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    staged.mkdir()
    os.utime(staged, ns=(1, 1))

    def expose() -> int:
        inside.activate({f"{tmp_path}/out": str(staged)}, {f"{tmp_path}/out"}, 1)
        inside.expose(tmp_path / "out")
        return staged.stat().st_mtime_ns

    assert in_child(expose) > 1
    assert not (tmp_path / "out").exists()


def test_messages_of_many_threads_do_not_mix(in_child: Runner) -> None:
    def talk() -> bytes:
        read_end, write_end = os.pipe()
        inside.activate({}, (), write_end)
        threads = [
            threading.Thread(target=lambda n=number: [inside.send(b"%d" % n * 50) for _ in range(20)])
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return os.read(read_end, 1 << 16)

    raw = in_child(talk)
    frames = []
    while raw:
        kind, size = inside.FRAME_HEADER.unpack_from(raw)
        assert kind == inside.MESSAGE
        frames.append(raw[inside.FRAME_HEADER.size : inside.FRAME_HEADER.size + size])
        raw = raw[inside.FRAME_HEADER.size + size :]
    assert sorted(frames) == sorted(b"%d" % number * 50 for number in range(4) for _ in range(20))
