"""SIGKILL while a box is committed: what recovery leaves is entirely old or entirely new, and if it is old, the box has
all of it still and can be committed again."""

from __future__ import annotations

import os
import random
import shutil
import stat
import time
from pathlib import Path

import pytest

from crash.tracer import count_calls, kill_at, observe
from jubako.boxes.commands.commit import recover_dead
from jubako.boxes.commands.kept_boxes import commit_box, kept_box_ids
from jubako.boxes.keeping.kept_record import BoxRecord, Layer, format_created, save_record
from jubako.boxes.state import open_state_root
from jubako.kernel.syscall_numbers import find_number

BOX = "3f9c01ab"
OLD = {"changed": "old", "gone": "old", "kept/inner": "old"}
NEW = {"changed": "new", "kept/inner": "new", "tree/deep/file": "new", "single": "new"}


class World:
    """A machine's folder, and a kept box that changes it in every way there is: moved, linked, copied, deleted."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.folder = top / "folder"

    def make(self) -> None:
        shutil.rmtree(self.top, ignore_errors=True)
        for name, text in OLD.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        self.state = open_state_root(str(self.top / "state"))
        upper = self.top / "state/boxes" / BOX / "0/upper"
        upper.mkdir(parents=True)
        for name, text in NEW.items():
            (upper / name).parent.mkdir(parents=True, exist_ok=True)
            (upper / name).write_text(text)
        os.setxattr(upper / "changed", "user.overlay.origin", b"")
        os.mknod(upper / "gone", stat.S_IFCHR)
        os.link(upper / "kept/inner", self.top / "another-name")  # so it is copied
        started_ns = time.time_ns()
        layers = (Layer(str(self.folder), "0/upper", os.stat(self.folder).st_ino),)
        record = BoxRecord(BOX, "cmd", format_created(started_ns), str(self.folder), layers, started_ns=started_ns)
        save_record(str(self.top / "state/boxes" / BOX), record)

    def commit(self) -> None:
        commit_box(BOX, state=self.state, durability="relaxed")

    def recover(self) -> None:
        recover_dead(self.state)

    def seen(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.folder)): path.read_text() for path in self.folder.rglob("*") if path.is_file()
        }


@pytest.fixture
def world():
    top = Path(f"/dev/shm/jubako-commit-{os.getpid()}")
    try:
        yield World(top)
    finally:
        shutil.rmtree(top, ignore_errors=True)


def moments(world: World) -> list[int]:
    """A seeded sample of the calls of a commit, and all around its renames."""
    numbers: list[int] = []
    world.make()
    observe(world.commit, lambda call: numbers.append(call.number), lambda call: None)
    assert world.seen() == NEW
    rename = find_number("renameat2", os.uname().machine)
    renames = [at for at, number in enumerate(numbers) if number == rename]
    assert len(renames) > 5
    choose = random.Random(20100101)
    return sorted({*choose.sample(range(len(numbers)), 20), *choose.sample(range(renames[0], renames[-1] + 3), 25)})


def test_commit_killed_anywhere_is_all_or_nothing_after_recovery(world: World) -> None:
    outcomes = set()
    for moment in moments(world):
        world.make()
        kill_at(world.commit, moment)
        for _ in range(2):
            world.recover()
            seen = world.seen()
            assert seen in (OLD, NEW), moment
        outcomes.add("new" if seen == NEW else "old")
        assert os.listdir(world.top / "state/stage") == [], moment
        if BOX in kept_box_ids(world.state):
            world.commit()  # what is left of it, or all of it
        assert world.seen() == NEW, moment
        assert kept_box_ids(world.state) == [], moment
    assert outcomes == {"old", "new"}


def test_recovery_of_a_killed_commit_may_be_killed_too(world: World) -> None:
    killed_between = moments(world)[-18]
    world.make()
    kill_at(world.commit, killed_between)
    calls = count_calls(world.recover)
    for number in random.Random(1).sample(range(calls), 10):
        world.make()
        kill_at(world.commit, killed_between)
        kill_at(world.recover, number)
        world.recover()
        assert world.seen() in (OLD, NEW)
        if BOX in kept_box_ids(world.state):
            world.commit()
        assert world.seen() == NEW
