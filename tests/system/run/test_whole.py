"""Whole runs of tasks with Box(Host(whole=True)), and what is kept of one that failed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jubako.layers.remove import remove_tree

pytestmark = pytest.mark.box
SOURCE = Path(__file__).parents[3] / "src"
ORDINARY_UID = 54323  # needs no entry in /etc/passwd
USERS = (0, ORDINARY_UID) if os.geteuid() == 0 else (os.geteuid(),)

PIPELINE = """
import os
from jubako import Box, Host, LocalTarget, Parameter, Task


class Wide(Task):
    box = Box(Host(whole=True))
    stray = Parameter()
    fails = Parameter(default="")

    def output(self):
        return [LocalTarget("out/staged.txt"), LocalTarget("raw.txt")]

    def run(self):
        staged, raw = self.output()
        with staged.open("w") as file:
            file.write("staged")
        with open(raw.path, "w") as file:
            file.write("raw")
        with open(self.stray, "w") as file:
            file.write("stray")
        os.remove("old.txt")
        if self.fails:
            raise ValueError(self.fails)

    def check(self):
        return not os.access(self.stray, os.W_OK) and not os.path.exists("old.txt")
"""


class Place:
    """A user's folder with the pipeline, and the command line in it."""

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.top = Path(tempfile.mkdtemp(prefix="jubako-whole-", dir="/var/tmp"))
        self.folder = self.top / "work"
        self.folder.mkdir()
        (self.folder / "pipeline.py").write_text(PIPELINE)
        (self.folder / "old.txt").write_text("old")
        self.stray = Path(f"/var/tmp/jubako-stray-{self.top.name}")  # where only the wide view can be written
        for path in (self.top, self.folder, *self.folder.iterdir()):
            os.chown(path, uid, uid)

    def jubako(self, *words: str) -> tuple[int, str]:
        import click  # where an interpreter other than this one finds what jubako needs

        def become() -> None:
            if os.geteuid() != self.uid:
                os.setgroups([])
                os.setresgid(self.uid, self.uid, self.uid)
                os.setresuid(self.uid, self.uid, self.uid)

        path = os.pathsep.join([str(SOURCE), str(Path(click.__file__).parents[1])])
        done = subprocess.run(
            [sys.executable if self.uid == os.geteuid() else "/usr/bin/python3", "-m", "jubako", *words],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.top), "PYTHONPATH": path},
            preexec_fn=become,  # a short-lived single-threaded child
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout

    def run(self, *options: str) -> tuple[int, str]:
        return self.jubako(
            "run", "pipeline.py", "Wide", "--stray", str(self.stray), "--durability", "relaxed", *options
        )


@pytest.fixture(params=USERS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = Place(request.param)
    try:
        yield place
    finally:
        place.stray.unlink(missing_ok=True)
        remove_tree(str(place.top))


def test_task_in_the_wide_view_publishes_what_it_declared_and_the_rest_is_told_or_published_too(place: Place) -> None:
    status, said = place.run()
    assert status == 0, said
    assert (place.folder / "out/staged.txt").read_text() == "staged"
    assert (place.folder / "raw.txt").read_text() == "raw"
    assert str(place.stray) in said
    assert str(place.folder / "old.txt") in said
    assert not place.stray.exists()
    assert (place.folder / "old.txt").read_text() == "old"
    assert said.count("is copy-on-write only where this user can write") == (1 if place.uid else 0)

    (place.folder / "raw.txt").unlink()
    status, said = place.run("--undeclared", "publish")
    assert status == 0, said
    assert place.stray.read_text() == "stray"
    assert not (place.folder / "old.txt").exists()
    assert (place.folder / "raw.txt").read_text() == "raw"


def test_box_of_a_failed_task_in_the_wide_view_is_looked_at_entered_and_committed(place: Place) -> None:
    status, said = place.run("--keep", "--fails", "half-way")
    assert status == 1
    box_id = said.partition("jubako box enter ")[2].split()[0].strip("'")
    status, said = place.jubako("box", "changes", box_id, "--format", "csv")
    assert status == 0, said
    paths = [str(place.stray), *(str(place.folder / name) for name in ("old.txt", "out/staged.txt", "raw.txt"))]
    assert [path for path in paths if path not in said] == []
    look = f"cat {place.stray} out/staged.txt raw.txt; ls old.txt"
    status, said = place.jubako("box", "enter", box_id, "--", "sh", "-c", look)
    assert "straystagedraw" in said
    assert "cannot access 'old.txt'" in said
    status, said = place.jubako("box", "commit", box_id, str(place.stray), "out")
    assert status == 0, said
    assert place.stray.read_text() == "stray"
    assert (place.folder / "out/staged.txt").read_text() == "staged"
    assert (place.folder / "old.txt").exists()
