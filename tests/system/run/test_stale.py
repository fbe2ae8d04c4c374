"""--stale in real runs: what changed runs again, what turns out the same does not, and why says so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import jubako
from jubako.flow.explain.why import Why, explain_task
from jubako.flow.fingerprints import code_digest
from jubako.flow.ledger.history import open_history
from jubako.flow.observer import RunPlanned
from jubako.flow.result import RunResult

from .conftest import World

pytestmark = pytest.mark.box

PIPELINE = """
    class Source(ExternalTask):
        name = Parameter(default="a")
        def output(self): return LocalTarget(f"{self.name}.in")

    class Clean(Task):
        tracks_changes = True
        code_version = 1
        name = Parameter(default="a")
        def requires(self): return Source(self.name)
        def output(self): return LocalTarget(f"{self.name}.clean")
        def run(self):
            with self.input().open() as file: text = file.read().strip()
            with self.output().open("w") as file: file.write(text)

    class Joined(Task):
        tracks_changes = True
        code_version = 1
        def requires(self): return [Clean(name) for name in "ab"]
        def output(self): return LocalTarget("joined")
        def run(self):
            texts = []
            for target in self.input():
                with target.open() as file: texts.append(file.read())
            with self.output().open("w") as file: file.write("+".join(texts))

    class Page(Task):
        def requires(self): return Joined()
        def output(self): return LocalTarget("page")
        def run(self):
            with self.input().open() as file: text = file.read()
            with self.output().open("w") as file: file.write(f"<{text}>")

    class All(WrapperTask):
        def requires(self): return [Page(), Other()]

    class Other(Task):
        def output(self): return LocalTarget("other")
        def run(self): self.output().open("w").close()
"""


@pytest.fixture(params=["host", "none"])
def mode(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture
def made(world: World, mode: str) -> World:
    """A world in which all of the pipeline was made once."""
    world.write(PIPELINE)
    for name in "ab":
        Path(f"{name}.in").write_text(name)
    assert again(world, world.All(), mode, stale=False) == ["All", "Clean", "Clean", "Joined", "Other", "Page"]
    assert again(world, world.All(), mode) == []
    return world


def again(world: World, task: Any, mode: str, *, stale: bool = True, **options: Any) -> list[str]:
    """The classes of what is run, sorted."""
    result = run(world, task, mode, stale=stale, **options)
    assert result, result.format_report()
    return sorted(task.get_task_family() for task in result.groups.completed)


def run(world: World, task: Any, mode: str, *, stale: bool = True, **options: Any) -> RunResult:
    return world.run(task, box=mode, stale=stale, **options)


def why(world: World, task: Any) -> Why:
    with open_history(str(world.state)) as history:
        return explain_task(task, history, world.pipeline.file, str)


def test_changed_input_runs_all_that_depends_on_it(made: World, mode: str) -> None:
    Path("a.in").write_text("c")
    assert again(made, made.All(), mode, stale=False) == []
    answer = why(made, made.Clean())
    assert (answer.verdict, answer.reason) == ("done", "stale")
    assert answer.sentence.startswith(f"Clean(name=a) is done, and stale: input {made.folder}/a.in changed since run ")
    answer = why(made, made.Joined())
    assert answer.reason == "stale"
    assert "is done, and depends on Clean(name=a), which is stale" in answer.sentence
    assert why(made, made.Clean("b")).reason == "complete"
    assert again(made, made.All(), mode) == ["Clean", "Joined", "Page"]
    assert made.read("page") == "<c+b>"
    assert why(made, made.Joined()).reason == "complete"
    assert again(made, made.All(), mode) == []


def test_what_comes_out_the_same_cuts_off_what_depends_on_it(made: World, mode: str) -> None:
    Path("a.in").write_text("a   \n")
    assert again(made, made.All(), mode) == ["Clean"]
    assert again(made, made.All(), mode) == []


def test_input_rewritten_with_the_same_bytes_is_not_changed(made: World, mode: str) -> None:
    Path("a.in").unlink()
    Path("a.in").write_text("a")
    os.utime("a.in", (1, 1))
    assert again(made, made.All(), mode) == []


def test_changed_code_runs_its_tasks_and_what_depends_on_them(made: World, mode: str) -> None:
    made.Joined.code_version = 2
    result = run(made, made.All(), mode)
    assert "stale: Joined(): code of code_version changed" in result.notes
    assert made.read("page") == "<a+b>"
    assert sorted(task.get_task_family() for task in result.groups.completed) == ["Joined"]


def test_only_what_was_asked_for_is_looked_through(made: World, mode: str) -> None:
    Path("a.in").write_text("c")
    assert again(made, made.Clean("b"), mode) == []
    assert again(made, made.Other(), mode) == []


def test_deleted_intermediate_is_made_again_only_if_it_would_differ(made: World, mode: str) -> None:
    Path("a.clean").unlink()
    assert again(made, made.All(), mode) == []
    Path("a.in").write_text("c")
    assert again(made, made.All(), mode) == ["Clean", "Joined", "Page"]


def test_deleted_input_changes_nothing(made: World, mode: str) -> None:
    Path("a.in").unlink()
    assert again(made, made.All(), mode) == []


def test_failed_rerun_leaves_it_stale(made: World, mode: str) -> None:
    Path("a.in").write_bytes(b"\xff")
    result = run(made, made.All(), mode)
    assert not result
    assert [task.get_task_family() for task in result.groups.failed] == ["Clean"]
    assert made.read("a.clean") == "a"
    Path("a.in").write_text("a")
    assert again(made, made.All(), mode) == []


def test_what_was_published_before_it_tracked_changes_is_left_alone_and_said(world: World, mode: str) -> None:
    world.write(PIPELINE)
    for name in "ab":
        Path(f"{name}.in").write_text(name)
    world.Clean.tracks_changes = False
    assert len(again(world, world.All(), mode, stale=False)) == 6
    world.Clean.tracks_changes = True
    Path("a.in").write_text("c")
    result = run(world, world.All(), mode)
    assert result.groups.completed == []
    text = "Clean(name=a) and 1 more of Clean: published before changes were tracked, so what was used is not known"
    assert text in result.notes
    facts = [fact.text for fact in why(world, world.Clean()).facts if fact.kind == "change"]
    assert facts == ["made before changes were tracked: what it was made of is not known"]


def test_task_published_while_it_did_not_track_has_no_old_fingerprint(made: World, mode: str) -> None:
    made.Clean.tracks_changes = False
    Path("a.clean").unlink()
    Path("a.in").write_text("c")
    assert again(made, made.Clean(), mode, stale=False) == ["Clean"]
    made.Clean.tracks_changes = True
    assert again(made, made.Clean(), mode) == []  # not known, and not the one of the first time


def test_nothing_that_tracks_changes_is_said(made: World, mode: str) -> None:
    result = run(made, made.Other(), mode)
    assert "no task here tracks changes (tracks_changes = True), so none can be seen to be stale" in result.notes


def test_changed_directory_is_a_changed_input(world: World, mode: str) -> None:
    world.write("""
        class Folder(ExternalTask):
            def output(self): return DirectoryTarget("folder")

        class Lists(Task):
            tracks_changes = True
            def requires(self): return Folder()
            def output(self): return LocalTarget("list")
            def run(self):
                with self.output().open("w") as file: file.write(" ".join(sorted(os.listdir("folder"))))
    """)
    Path("folder").mkdir()
    Path("folder/a").touch()
    assert again(world, world.Lists(), mode, stale=False) == ["Lists"]
    Path("folder/a").touch()
    assert again(world, world.Lists(), mode) == []
    Path("folder/b").touch()
    assert again(world, world.Lists(), mode) == ["Lists"]
    assert world.read("list") == "a b"


def test_tasks_of_a_batch_have_a_fingerprint_each(world: World, mode: str) -> None:
    world.write("""
        class Source(ExternalTask):
            name = Parameter()
            def output(self): return LocalTarget(f"{self.name}.in")

        class Copy(Task):
            tracks_changes = True
            names = ListParameter(batch_method=lambda lists: sum(map(tuple, lists), ()))
            def requires(self): return [Source(name) for name in self.names]
            def output(self): return [LocalTarget(f"{name}.out") for name in self.names]
            def run(self):
                for source, target in zip(self.input(), self.output()):
                    with source.open() as read, target.open("w") as file: file.write(read.read())
    """)
    for name in "ab":
        Path(f"{name}.in").write_text(name)
    tasks = [world.Copy([name]) for name in "ab"]
    assert world.run(*tasks, box=mode)
    Path("a.in").write_text("c")
    result = world.run(*tasks, box=mode, stale=True)
    assert [task.names for task in result.groups.completed] == [("a",)]


class Rival:
    """Another run of the same, from beginning to end, between the planning of this one and its work."""

    def __init__(self, world: World, mode: str) -> None:
        self.world = world
        self.mode = mode

    def see(self, event: Any) -> None:
        if isinstance(event, RunPlanned):
            pid = os.fork()
            if pid == 0:
                world = self.world
                options = {"box": self.mode, "durability": "relaxed", "state": str(world.state)}
                os._exit(0 if jubako.run([world.Joined()], pipeline=world.pipeline, stale=True, **options) else 1)
            assert os.waitpid(pid, 0)[1] == 0


def test_what_another_run_has_made_anew_meanwhile_is_not_run_again(made: World, mode: str) -> None:
    made.Joined.code_version = 2
    Path("a.in").write_text("c")
    result = made.run(made.Joined(), box=mode, stale=True, also=Rival(made, mode))
    assert made.read("joined") == "c+b"
    assert result.groups.completed == []


def test_code_of_a_loaded_pipeline_is_read_from_its_file(world: World) -> None:
    world.write("""
        def helper(): return 1
        class Made(Task):
            def run(self): helper()
    """)
    code = code_digest.digest_code(world.Made)
    assert {name.rpartition(".")[2] for name in code.pieces} == {"Made", "helper"}
