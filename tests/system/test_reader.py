"""A reader that looks all the time while outputs are published over and over: it never finds one missing, torn, or a
completion mark whose data is older than the mark."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest

from crash.world import World
from jubako.boxes.spec import Output
from jubako.boxes.transactions.publish import Move, Published, Publisher, Transaction, take_signature
from jubako.boxes.transactions.stage import StageArea

LINES = 2000  # some pages: a torn file would show it


@pytest.fixture
def world():
    path = Path(f"/dev/shm/jubako-reader-{os.getpid()}")
    yield World(path / "state", path / "outputs", durability="relaxed")
    shutil.rmtree(path)


def text_of(version: int) -> str:
    return f"{version}\n" * LINES


def write_version(staged: str, kind: str, version: int) -> None:
    if kind == "file":
        Path(staged).write_text(text_of(version))
        return
    for name in ("a", "b"):
        Path(staged, name).write_text(text_of(version))


def read_version(path: Path) -> int:
    """The version a file holds; ValueError if it is torn."""
    text = path.read_text()
    version = int(text.split("\n", 1)[0])
    if text != text_of(version):
        raise ValueError(f"{path} is torn: {len(text)} characters, starts with {version}")
    return version


def look(outputs: Path) -> str:
    """What is wrong with one look at the outputs, taken in the order that a dependent takes; "" if nothing is."""
    try:
        mark = read_version(outputs / "mark")
        data = read_version(outputs / "data")
        inner = [read_version(outputs / "tree" / name) for name in ("a", "b")]
    except (OSError, ValueError) as error:
        return repr(error)
    if data < mark or inner[0] < mark or inner[1] < inner[0]:
        return f"mark {mark}, data {data}, tree {inner}"
    return ""


def read_until_closed(outputs: Path, stop_fd: int) -> tuple[int, list[str]]:
    """How often it was looked, and what was wrong."""
    os.set_blocking(stop_fd, False)
    looks = 0
    wrong: list[str] = []
    while len(wrong) < 5:
        problem = look(outputs)
        if problem:
            wrong.append(problem)
        looks += 1
        try:
            if os.read(stop_fd, 1) == b"":
                break
        except BlockingIOError:
            continue
    return looks, wrong


def publish_versions(world: World, versions: range) -> None:
    state, journal = world.open()
    outputs = [Output(str(world.outputs / name), kind) for name, kind in
               (("data", "file"), ("tree", "directory"), ("mark", "file"))]  # fmt: skip
    with StageArea(state, "run", journal) as area:
        publisher = Publisher(journal, "relaxed")
        for version in versions:
            id = str(version)
            moves = []
            for output in area.stage(id, outputs):
                write_version(output.staged, output.kind, version)
                moves.append(Move(output.staged, output.path, take_signature(output.path)))
            (outcome,) = publisher.publish([Transaction(id, "Task", tuple(moves))])
            assert outcome == Published(id)
            area.discard(id)
    journal.connection.close()


@pytest.mark.parametrize("publishes", [300, pytest.param(10_000, marks=pytest.mark.soak)])
def test_reader_during_publishes_finds_nothing_missing_torn_or_early(world, publishes):
    world.make()
    shutil.rmtree(world.outputs)
    world.outputs.mkdir()
    publish_versions(world, range(1))
    stop_read, stop_write = os.pipe()
    answer_read, answer_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(stop_write)
            os.write(answer_write, pickle.dumps(read_until_closed(world.outputs, stop_read)))
        finally:
            os._exit(0)
    os.close(stop_read)
    os.close(answer_write)
    try:
        publish_versions(world, range(1, publishes))
    finally:
        os.close(stop_write)
        with os.fdopen(answer_read, "rb") as pipe:
            answer = pipe.read()
        os.waitpid(pid, 0)
    looks, wrong = pickle.loads(answer)
    assert wrong == []
    assert looks > publishes // 30
    assert read_version(world.outputs / "mark") == publishes - 1
