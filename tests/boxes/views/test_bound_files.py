"""Copies of single files: those that nobody has written to are taken away."""

from __future__ import annotations

import os
from pathlib import Path

from jubako.boxes.views.bound_files import drop_untouched_files, note_copies


def test_untouched_copies_are_dropped_and_changed_ones_stay_however_soon_they_were_changed(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("untouched", "rewritten", "emptied", "opened up")}
    for path in paths.values():
        path.write_text("text")
        os.utime(path, (1, 1))
    copies = note_copies(str(path) for path in paths.values())
    paths["rewritten"].write_text("text")
    paths["emptied"].write_text("")
    paths["opened up"].chmod(0o666)

    drop_untouched_files(copies)

    assert sorted(os.listdir(tmp_path)) == ["emptied", "opened up", "rewritten"]


def test_copy_that_was_given_its_old_time_back_counts_as_changed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    copies = note_copies([str(path)])
    noted = path.stat()
    while path.stat().st_ctime_ns == noted.st_ctime_ns:  # until the clock has ticked
        path.write_text("TEXT")
        os.utime(path, ns=(noted.st_atime_ns, noted.st_mtime_ns))

    drop_untouched_files(copies)

    assert path.read_text() == "TEXT"
