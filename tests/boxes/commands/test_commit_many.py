"""Commits of many files at once: more than a part of the journal, and than notes are taken off at a time."""

from __future__ import annotations

import gc
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jubako.boxes.commands.commit import commit_changes, forget_committed
from jubako.boxes.keeping.changes import read_box_changes
from jubako.boxes.keeping.kept_record import BoxRecord, Layer
from jubako.boxes.state import StateRoot, open_state_root
from jubako.errors import ConflictError
from jubako.layers.change import Change
from jubako.layers.fold import link_layer
from jubako.layers.remove import remove_tree

FOLDERS = 3
FILES = 6_500


def fill(top: Path, files: int, text: str) -> None:
    for folder in range(FOLDERS):
        (top / str(folder)).mkdir(parents=True)
        for number in range(folder, files, FOLDERS):
            (top / str(folder) / str(number)).write_text(text)


class Box:
    """Files of this machine in the working directory, all of which a box has changed; a third of them is new there."""

    def __init__(self, state: StateRoot, files: int, *, linked: bool = False) -> None:
        self.state = state
        self.machine = Path.cwd() / f"machine-{files}"
        self.upper = Path(state.boxes_path, "0000aaaa/0/upper")
        remove_tree(self.directory)
        fill(self.machine, files - files % FOLDERS, "old")
        fill(self.upper, files, "new")
        for folder in range(FOLDERS):
            for path in list((self.machine / str(folder)).iterdir())[::3]:
                path.unlink()
        if linked:  # with another name, none of them may be given away as it is
            link_layer(str(self.upper), "other-names")
        for path in self.upper.rglob("[0-9]*/*"):
            if (self.machine / path.relative_to(self.upper)).exists():
                os.setxattr(path, "user.overlay.origin", b"")
        self.started_ns = max(path.lstat().st_ctime_ns for path in self.machine.rglob("*")) + 1
        layers = (Layer(str(self.machine), "0/upper"),)
        cwd = str(self.machine)
        self.record = BoxRecord(
            "0000aaaa", "", "2024-05-06T07:08:09Z", cwd, layers, started_ns=self.started_ns, userxattr=True
        )
        self.changes: tuple[Change, ...] = read_box_changes(self.directory, self.record)

    @property
    def directory(self) -> str:
        return str(self.upper.parent.parent)

    def commit(self) -> None:
        machine = str(self.machine)
        committed = commit_changes(
            self.state, self.directory, self.record, self.changes, [machine], durability="relaxed"
        )
        assert committed.plan.find_rest(self.changes) == ()
        forget_committed(self.directory, self.record, committed.plan)

    def read(self, top: Path) -> list[str]:
        return [path.read_text() for path in top.rglob("*") if path.is_file()]


@pytest.fixture
def do(in_user_child: Any) -> Iterator[Callable[[Callable[[StateRoot], Any]], Any]]:
    """Calls a function with a state root, in a directory in memory, as root and as an ordinary user."""
    top = Path(tempfile.mkdtemp(prefix="jubako-many-", dir="/dev/shm"))
    top.chmod(0o777)

    def there(function: Callable[[StateRoot], Any]) -> Any:
        os.chdir(top)
        return function(open_state_root(str(top / "state")))

    try:
        yield lambda function: in_user_child(lambda: there(function))
    finally:
        remove_tree(str(top))


@pytest.mark.parametrize("linked", [False, True])
def test_commit_of_many_files_publishes_them_all_and_leaves_none_in_the_box(do: Any, linked: bool) -> None:
    def act(state: StateRoot) -> tuple[list[str], list[str], set[tuple[str, ...]], list[str]]:
        box = Box(state, FILES, linked=linked)
        box.commit()
        attributes = {tuple(os.listxattr(path)) for path in box.machine.rglob("*/*")}
        return box.read(box.machine), box.read(box.upper), attributes, os.listdir(state.stage_path)

    assert do(act) == (["new"] * FILES, [], {()}, [])


def test_commit_of_many_files_with_one_conflict_publishes_none(do: Any) -> None:
    def act(state: StateRoot) -> tuple[set[str], list[str]]:
        box = Box(state, 1_500)
        busy = next(path for path in sorted(box.machine.rglob("2/*"), reverse=True) if path.is_file())
        while busy.stat().st_ctime_ns < box.started_ns:  # the kernel's clock for files goes in ticks
            busy.write_text("old")
        with pytest.raises(ConflictError, match=f"{busy} was changed on this machine"):
            box.commit()
        return set(box.read(box.machine)), box.read(box.upper)

    assert do(act) == ({"old"}, ["new"] * 1_500)


def test_commit_takes_few_bytes_of_memory_for_each_file(do: Any) -> None:
    def measure(state: StateRoot, files: int) -> int:
        box = Box(state, files)
        gc.collect()
        tracemalloc.start()
        box.commit()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    def act(state: StateRoot) -> tuple[int, int]:
        measure(state, 100)  # imports, and what is remembered
        return measure(state, FILES), measure(state, FILES + 4_000)

    few, many = do(act)
    assert (many - few) / 4_000 < 100
