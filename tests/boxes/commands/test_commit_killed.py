"""SIGKILL while a box is committed: what recovery leaves is entirely old or entirely new, and if it is old, the box has
all of it still and can be committed again. It never has the machine's old versions, for whoever looks into it.

`make test` takes a seeded sample of the moments, `make soak` all of them; as root and as an ordinary user.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crash.tracer import count_calls, kill_at, observe
from jubako.boxes.commands.commit import recover_dead
from jubako.boxes.commands.kept_boxes import commit_box, kept_box_ids, read_kept_changes, remove_boxes
from jubako.boxes.keeping.kept import lock_box
from jubako.boxes.keeping.kept_record import BoxRecord, Layer, format_created, save_record
from jubako.boxes.state import StateRoot, open_state_root
from jubako.errors import ConflictError
from jubako.kernel.syscall_numbers import find_number

BOX = "3f9c01ab"
UNTOUCHED = {"many/untouched": "as it was"}
OLD = {"changed": "old", "gone": "old", "many/gone": "old", "kept/inner": "old", "directory/inner": "old", **UNTOUCHED}
OLD |= {f"many/{number}": "old" for number in range(4)}
NEW = {"changed": "new", "kept/inner": "new", "tree/deep/file": "new", "single": "new", "directory": "new"}
NEW |= {f"many/{number}": "new" for number in range(6)}
PUBLISHED = NEW | UNTOUCHED


class World:
    """A machine's folder, and a kept box that changes it in every way there is: new things moved, files exchanged, also
    with a directory, copied, and deleted."""

    def __init__(self) -> None:
        self.top = Path(f"/dev/shm/jubako-commit-{os.getpid()}")
        self.folder = self.top / "folder"
        self.box = self.top / "state/boxes" / BOX

    def make(self) -> None:
        self.remove()
        for name, text in OLD.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        open_state_root(str(self.top / "state"))
        upper = self.box / "0/upper"
        upper.mkdir(parents=True)
        for name, text in NEW.items():
            (upper / name).parent.mkdir(parents=True, exist_ok=True)
            (upper / name).write_text(text)
        for name in ("changed", "many/1"):
            os.setxattr(upper / name, "user.overlay.origin", b"")
        for name in ("gone", "many/gone"):
            os.mknod(upper / name, stat.S_IFCHR)
        os.link(upper / "kept/inner", self.top / "another-name")  # so it is copied
        started_ns = time.time_ns()
        layers = (Layer(str(self.folder), "0/upper", os.stat(self.folder).st_ino),)
        save_record(
            str(self.box),
            BoxRecord(BOX, "cmd", format_created(started_ns), str(self.folder), layers, started_ns=started_ns),
        )

    def remove(self) -> None:
        shutil.rmtree(self.top, ignore_errors=True)

    @property
    def state(self) -> StateRoot:
        return StateRoot(str(self.top / "state"))

    def commit(self) -> None:
        commit_box(BOX, state=self.state, durability="relaxed")

    def recover(self) -> None:
        recover_dead(self.state)

    def look_into(self) -> None:
        """What anybody who looks at the box's changes does; there may be none any more."""
        if BOX in kept_box_ids(self.state):
            read_kept_changes(BOX, self.state)

    def seen(self) -> dict[str, str]:
        """The files of the machine, without those that jubako removes at its next start."""
        return {name: text for name, text in read(self.folder).items() if not name.startswith(".jubako-")}

    def held(self) -> dict[str, str]:
        """The files the box has."""
        return read(self.box / "0/upper")


def read(top: Path) -> dict[str, str]:
    return {str(path.relative_to(top)): path.read_text() for path in top.rglob("*") if path.is_file()}


def check(world: World, moment: object) -> str:
    """After a recovery: which of the two states it is, and that committing what is left gives the new one."""
    seen, held = world.seen(), world.held()
    assert seen in (OLD, PUBLISHED), moment
    assert set(held.values()) <= {"new"}, moment  # and nothing that was displaced
    if seen == OLD:
        assert held == NEW, moment
    world.recover()  # who looked into the box needed no more of it than that
    assert world.seen() == seen
    assert os.listdir(world.top / "state/stage") == list(world.folder.rglob(".jubako-*")) == [], moment
    assert not (world.box / "committing").exists() or BOX in kept_box_ids(world.state), moment
    if BOX in kept_box_ids(world.state):
        world.commit()
    assert world.seen() == PUBLISHED, moment
    assert kept_box_ids(world.state) == [], moment
    return "old" if seen == OLD else "new"


def observe_calls(world: World) -> list[int]:
    """The numbers of the system calls of a commit."""
    numbers: list[int] = []
    world.make()
    observe(world.commit, lambda call: numbers.append(call.number), lambda call: None)
    assert world.seen() == PUBLISHED
    return numbers


def find_renames(numbers: list[int]) -> list[int]:
    rename = find_number("renameat2", os.uname().machine)
    return [at for at, number in enumerate(numbers) if number == rename]


def choose_moments(world: World) -> list[int]:
    """A seeded sample of the calls of a commit, and all around its renames and what comes after."""
    numbers = observe_calls(world)
    renames = find_renames(numbers)
    assert len(renames) > 12
    choose = random.Random(20100101)
    publishing = range(renames[0], len(numbers))
    return sorted({*choose.sample(range(len(numbers)), 20), *choose.sample(publishing, 50)})


def all_moments(world: World) -> list[int]:
    return list(range(len(observe_calls(world))))


def in_world(act: Callable[[World], Any]) -> Callable[[], Any]:
    def run() -> Any:
        world = World()
        try:
            return act(world)
        finally:
            world.remove()

    return run


SOAKED = pytest.param(all_moments, marks=pytest.mark.soak)


@pytest.mark.parametrize("recover", [World.recover, World.look_into])
@pytest.mark.parametrize("moments", [choose_moments, SOAKED])
def test_commit_killed_anywhere_is_all_or_nothing_after_recovery(
    in_user_child: Any, moments: Callable[[World], list[int]], recover: Callable[[World], None]
) -> None:
    def act(world: World) -> set[str]:
        outcomes = set()
        for moment in moments(world):
            world.make()
            kill_at(world.commit, moment)
            recover(world)
            outcomes.add(check(world, moment))
        return outcomes

    assert in_user_child(in_world(act)) == {"old", "new"}


@pytest.mark.parametrize(("every", "calls"), [(60, 10), pytest.param(1, 20, marks=pytest.mark.soak)])
def test_recovery_of_a_killed_commit_may_be_killed_too(in_user_child: Any, every: int, calls: int) -> None:
    """At that many calls of each recovery, of commits killed at every so many calls from their first rename on."""

    def act(world: World) -> int:
        choose = random.Random(1)
        numbers = observe_calls(world)
        renames = find_renames(numbers)
        killed = 0
        for moment in {*range(renames[-12] + 3, len(numbers), every), renames[-1] + 1}:
            world.make()
            kill_at(world.commit, moment)
            for number in choose.sample(range(count_calls(world.recover)), calls):
                world.make()
                kill_at(world.commit, moment)
                killed += kill_at(world.recover, number).killed
                world.recover()
                check(world, (moment, number))
        return killed

    assert in_user_child(in_world(act)) > 30


def test_box_of_a_killed_commit_that_a_person_must_decide_about_is_nobodys_until_then(in_user_child: Any) -> None:
    def act(world: World) -> tuple[list[str], dict[str, str]]:
        renames = find_renames(observe_calls(world))
        world.make()
        kill_at(world.commit, renames[-1])  # all but one of the moves are carried out
        published = {name for name, text in world.seen().items() if text == "new"}
        (world.folder / "many/2").unlink()
        (world.folder / "many/2").write_text("somebody's")
        assert "many/2" in published
        messages = []
        for attempt in (
            lambda: read_kept_changes(BOX, world.state),
            lambda: remove_boxes([BOX], world.state),
            world.commit,
            lambda: os.close(lock_box(str(world.box), exclusive=False)),
        ):
            with pytest.raises(ConflictError) as caught:
                attempt()
            messages.append(caught.value.message)
        old_version = world.box / "0/upper/many/2"
        assert old_version.read_text() == "old"
        assert str(old_version) in messages[0]
        old_version.unlink()  # as the message says, to keep what is there now
        world.look_into()
        assert not (world.box / "committing").exists()
        assert world.held() == {name: text for name, text in NEW.items() if name != "many/2"}  # that was deleted
        return messages, world.seen()

    messages, seen = in_user_child(in_world(act))
    assert len(set(messages)) == 1
    assert f"box {BOX} was being committed when that was cut short; " in messages[0]
    assert seen == OLD | {"many/2": "somebody's"}
