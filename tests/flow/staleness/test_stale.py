"""--stale against a slow obvious reference: on random graphs, after random changes, exactly what has to run runs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.flow.fingerprints.fingerprint import Cause, Fingerprint
from jubako.flow.fingerprints.fingerprint_book import Made
from jubako.flow.parameters import IntParameter
from jubako.flow.run.runner import run
from jubako.flow.staleness.stale import Staleness, find_stale
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.tasks.task import ExternalTask, Task, WrapperTask


class World:
    """The graph that the tasks below are about: who requires whom, and what their code says."""

    folder = Path()
    requires: Sequence[Sequence[int]] = ()  # by task; what requires nothing is a source
    versions: list[int] = []  # noqa: RUF012  (set anew by each test)

    @classmethod
    def read(cls, n: int) -> str:
        return (cls.folder / str(n)).read_text()

    @classmethod
    def make(cls, n: int, texts: Sequence[str]) -> str:
        """What task `n` makes of its inputs. Much comes out the same: that is what may be cut off."""
        return str((sum(map(int, texts)) + cls.versions[n] // 2) % 3)


class Source(ExternalTask):
    n = IntParameter()

    def output(self) -> Any:
        return LocalTarget(World.folder / str(self.n))


class Node(Task):
    n = IntParameter()
    tracks_changes = True

    @property
    def code_version(self) -> Any:
        return World.versions[self.n]

    def requires(self) -> Any:
        return [node(other) for other in World.requires[self.n]]

    def output(self) -> Any:
        return LocalTarget(World.folder / str(self.n))

    def run(self) -> None:
        texts = [World.read(other) for other in World.requires[self.n]]
        with self.output().open("w") as file:
            file.write(World.make(self.n, texts))


class Everything(WrapperTask):
    def requires(self) -> Any:
        return [node(n) for n in range(len(World.requires))]


def node(n: int) -> Task:
    return Node(n) if World.requires[n] else Source(n)


GRAPHS = st.integers(2, 8).flatmap(
    lambda size: st.tuples(
        *(st.lists(st.integers(0, n - 1), unique=True, max_size=3) if n else st.just([]) for n in range(size))
    )
)
CHANGES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2)), max_size=3)


@settings(max_examples=20)
@given(GRAPHS, st.lists(CHANGES, min_size=1, max_size=3))
def test_exactly_what_is_made_of_something_else_runs_and_all_is_as_if_made_anew(
    graph: Sequence[Sequence[int]], rounds: Sequence[Sequence[tuple[int, int]]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        World.folder, World.requires, World.versions = Path(folder), graph, [0] * len(graph)
        options = {"box": "none", "durability": "relaxed", "state": f"{folder}/state"}
        for n, required in enumerate(graph):
            if not required:
                (World.folder / str(n)).write_text("0")
        assert run([Everything()], **options)
        made_of = {n: (0, [World.read(m) for m in required]) for n, required in enumerate(graph) if required}
        for changes in rounds:
            for n, value in changes:
                if n < len(graph) and graph[n]:
                    World.versions[n] += value
                elif n < len(graph):
                    (World.folder / str(n)).write_text(str(value))
            expected, texts = set(), {}
            for n, required in enumerate(graph):
                inputs = [texts[m] for m in required]
                texts[n] = World.make(n, inputs) if required else World.read(n)
                if required and made_of[n] != (World.versions[n], inputs):
                    expected.add(n)
                    made_of[n] = (World.versions[n], inputs)
            result = run([Everything()], stale=True, **options)
            assert result, result.format_report()
            assert {task.n for task in result.groups.completed if isinstance(task, Node)} == expected
            assert {n: World.read(n) for n in texts} == texts


class Plain(Node):
    tracks_changes = False


def fingerprint(version: str, **inputs: str) -> Fingerprint:
    return Fingerprint({"code": version}, {}, inputs)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """0 <- 1 <- 2: a source and two tasks that are done."""
    World.folder, World.requires, World.versions = tmp_path, [[], [0], [1]], [0, 0, 0]
    for n in range(3):
        (tmp_path / str(n)).write_text("0")
    return tmp_path


def look(recorded: dict[int, Fingerprint], now: dict[int, Fingerprint], task: Any = None) -> Staleness:
    made = {Node(n).task_id: Made("r", 1.0, found.dump()) for n, found in recorded.items()}
    return find_stale([task or Node(2)], lambda task: now[task.n], lambda ids: made)


def test_stale_task_has_its_causes_and_what_depends_on_it_its_inputs(chain: Path) -> None:
    was, now = fingerprint("1", x="a"), fingerprint("2", x="a")
    found = look({1: was, 2: was}, {1: now, 2: was})
    assert found.stale == {Node(1): [Cause("code", "code", "code of code changed")]}
    assert found.below == {Node(2): {"x": "a"}}
    assert found.describe() == ["stale: Node(n=1): code of code changed"]


def test_task_that_only_takes_what_is_made_again_waits_for_it(chain: Path) -> None:
    was = fingerprint("1", x="a")
    found = look({1: was, 2: was}, {1: fingerprint("2", x="a"), 2: fingerprint("1", x="b")})
    assert (list(found.stale), found.below) == ([Node(1)], {Node(2): {"x": "a"}})
    found = look({1: was, 2: was}, {1: fingerprint("2", x="a"), 2: fingerprint("2", x="b")})
    assert (set(found.stale), found.below) == ({Node(1), Node(2)}, {})


def test_what_is_not_recorded_is_unknown_if_it_is_there(chain: Path) -> None:
    now = fingerprint("1")
    assert look({}, {1: now, 2: now}).unknown == [Node(2), Node(1)]
    (chain / "1").unlink()
    assert look({}, {1: now, 2: now}).unknown == [Node(2)]


def test_what_is_unknown_is_told_by_family() -> None:
    class Other(Node):
        pass

    lines = Staleness({}, {}, unknown=[Other(1), Node(1), Node(2), Other(2), Other(3)], tracking=1).describe()
    assert [line.partition(": published")[0] for line in lines] == [
        "Other(n=1) and 2 more of Other",
        "Node(n=1) and 1 more of Node",
    ]


def test_task_that_cannot_be_asked_is_named_and_left_alone(chain: Path) -> None:
    was = fingerprint("1")
    found = look({1: was, 2: was}, {2: was})
    assert (found.stale, found.troubles) == ({}, {Node(1): "KeyError: 1"})
    assert found.describe() == ["Node(n=1): whether it is stale cannot be told: KeyError: 1"]


def test_many_reasons_are_not_all_told() -> None:
    causes = {Node(n): [Cause("code", f"{n}", f"code of {n} changed"), Cause("input", "", "")] for n in range(20)}
    lines = Staleness(causes, {}, tracking=1).describe()
    assert len(lines) == 9
    assert lines[0] == "stale: Node(n=0): code of 0 changed, and 1 more"
    assert lines[-1] == "stale: and 12 more reasons; 'jubako why' says them task by task"


def test_code_that_cannot_be_read_is_said(chain: Path) -> None:
    was, now = Fingerprint(None, {}, {}), fingerprint("1")
    found = look({1: was, 2: now}, {1: now, 2: now})
    assert found.describe() == ["Node(n=1): the code cannot be read, so changes of it are not seen"]


def test_what_does_not_track_changes_depends_all_the_same(chain: Path) -> None:
    class Below(Plain):
        def requires(self) -> Any:
            return Node(1)

    was = fingerprint("1", x="a")
    found = look({1: was}, {1: fingerprint("2", x="a"), 2: fingerprint("9", y="b")}, Below(2))
    assert (list(found.stale), found.below) == ([Node(1)], {Below(2): {"y": "b"}})
