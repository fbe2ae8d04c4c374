"""Verifying real tasks in real boxes: what is the same, what differs, what cannot be told; and that nothing stays."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from jubako.flow.ledger.history import open_history
from jubako.flow.observer import TaskPrinted, TaskStarted, TaskVerified
from jubako.flow.verifying.verification import TaskVerdict, Verification
from jubako.flow.verifying.verify_tasks import verify_tasks
from jubako.verify import Tolerance

from .conftest import World

pytestmark = pytest.mark.box


def verify(world: World, *tasks: Any, **options: Any) -> Verification:
    world.also = None
    return verify_tasks(list(tasks), state=str(world.state), pipeline=world.pipeline, observer=world, **options)


def verify_one(world: World, task: Any, **options: Any) -> TaskVerdict:
    (verdict,) = verify(world, task, **options).verdicts
    return verdict


def test_what_comes_out_the_same_is_the_same_and_nothing_is_changed(world: World) -> None:
    world.write("""
        class Rates(ExternalTask):
            def output(self): return LocalTarget("rates.csv")

        class Report(Task):
            def requires(self): return Rates()
            def output(self):
                return [LocalTarget("out/report.json"), DirectoryTarget("out/pages"), LocalTarget("out/raw")]
            def run(self):
                assert not any(target.exists() for target in self.output()[::2])
                assert not os.listdir("out/pages") and not os.path.exists("out/raw")
                with self.output()[0].open("w") as file:
                    file.write('{"rates": 2}')
                with open("out/pages/one.txt", "w") as file:
                    file.write("one")
                with open("out/raw", "w") as file:
                    file.write("raw")
                with open("undeclared", "w") as file:
                    file.write("x")
                print("seen")
            def check(self):
                with self.output()[0].open() as file: return "rates" in file.read()
    """)
    Path("rates.csv").write_text("a\n1\n")
    Path("out").mkdir()
    Path("out/pages").mkdir()
    Path("out/pages/one.txt").write_text("one")
    Path("out/report.json").write_text('{"rates":2}')
    Path("out/raw").write_text("raw")
    before, times = world.files(), os.stat("out/report.json")
    found = verify(world, world.Report())
    assert (bool(found), dict(found.counts)) == (True, {"same": 1, "within": 0, "different": 0, "cannot": 0})
    outputs = found.verdicts[0].outputs
    assert [each.comparison.how for each in outputs] == ["json", "directory", "bytes"]
    assert outputs[0].comparison.describe() == "the same contents in other bytes"
    assert world.files() == before
    assert os.stat("out/report.json").st_ino == times.st_ino
    assert [type(event).__name__ for event in world.seen.events if isinstance(event, (TaskStarted, TaskVerified))] == [
        "TaskStarted",
        "TaskVerified",
    ]
    assert b"".join(event.data for event in world.seen.events if isinstance(event, TaskPrinted)) == b"seen\n"


CHANGING = """
    class Sum(Task):
        n = IntParameter(default=1)
        def output(self): return LocalTarget(f"sum{self.n}.csv")
        def run(self):
            with open("add") as file: add = float(file.read())
            with self.output().open("w") as file: file.write(f"n,sum\\n{self.n},{self.n + add}\\n")
"""


def test_first_difference_and_tolerance(world: World) -> None:
    world.write(CHANGING)
    Path("add").write_text("1")
    assert world.run(world.Sum(), world.Sum(n=2))
    Path("add").write_text("1.0000000001")
    found = verify(world, world.Sum(), world.Sum(n=2), workers=2)
    assert (bool(found), found.counts["different"]) == (False, 2)
    path = f"{world.folder}/sum1.csv"
    assert found.verdicts[0].describe() == f'{path}: row 2, column 2 (sum): published "2.0", recomputed "2.0000000001"'
    assert verify_one(world, world.Sum(), tolerance=Tolerance(relative=1e-9)).verdict == "within"
    assert verify_one(world, world.Sum(), ignore=["sum"]).verdict == "same"
    assert world.read("sum1.csv") == "n,sum\n1,2.0\n"


def test_output_in_a_store_is_fetched_and_compared_and_nothing_is_sent(world: World) -> None:
    world.write("""
        from jubako.flow.stores.store_target import StoreTarget
        URL = "file://" + os.path.abspath("../shared/stored.json")

        class Stored(Task):
            def output(self): return StoreTarget(URL)
            def run(self):
                assert not self.output().exists()
                with self.output().open("w") as file: file.write('{"a": 1}')
    """)
    assert world.run(world.Stored())
    stored = world.shared / "stored.json"
    stored.write_text('{"a":1}')
    assert verify_one(world, world.Stored()).outputs[0].comparison.describe() == "the same contents in other bytes"
    stored.write_text('{"a": 2}')
    found = verify_one(world, world.Stored())
    assert found.describe() == f"file://{stored}: $.a: published 2, recomputed 1"
    assert stored.read_text() == '{"a": 2}'


def test_what_has_changed_since_is_told_of_what_is_different(world: World) -> None:
    world.write("""
        class Source(ExternalTask):
            def output(self): return LocalTarget("source")

        class Copy(Task):
            tracks_changes = True
            code_version = 1
            def requires(self): return Source()
            def output(self): return LocalTarget("copy")
            def run(self):
                with self.input().open() as read, self.output().open("w") as file: file.write(read.read())
    """)
    Path("source").write_text("one")
    assert world.run(world.Copy())
    assert verify_one(world, world.Copy()).changes == ()
    Path("copy").write_text("edited")
    assert verify_one(world, world.Copy()).changes == []
    Path("source").write_text("two")
    world.Copy.code_version = 2
    found = verify_one(world, world.Copy())
    assert found.changes == ["code of code_version changed", f"input {world.folder}/source changed"]


def test_what_comes_out_different_is_kept_where_that_is_wanted(world: World) -> None:
    world.write("""
        class Two(Task):
            def output(self):
                return [LocalTarget("a/same"), LocalTarget("a/x"), LocalTarget("b/x"), DirectoryTarget("c")]
            def run(self):
                for target in self.output()[:3]:
                    with target.open("w") as file: file.write("new" + os.path.dirname(target.path))
                with open("c/file", "w") as file: file.write("new")
    """)
    for name, text in (("a/same", "newa"), ("a/x", "old"), ("b/x", "old"), ("c/file", "old")):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    for _ in range(2):  # the second time in place of the first
        found = verify_one(world, world.Two(), keep_in="kept")
    folder = f"{world.folder}/kept/{world.Two().task_id}"
    assert [each.kept for each in found.outputs] == ["", f"{folder}/x", f"{folder}/x.2", f"{folder}/c"]
    assert [Path(f"{folder}/{name}").read_text() for name in ("x", "x.2", "c/file")] == ["newa", "newb", "new"]
    Path("blocked").touch()
    found = verify_one(world, world.Two(), keep_in="blocked")
    assert [each.kept for each in found.outputs] == [""] * 4


def test_task_says_itself_how_it_is_compared(world: World) -> None:
    world.write(
        CHANGING
        + """
    from jubako.verify import Rules, Tolerance
    Sum.verification = Rules(Tolerance(absolute=1e-6))
"""
    )
    Path("add").write_text("1")
    assert world.run(world.Sum())
    Path("add").write_text("1.0000000001")
    assert verify_one(world, world.Sum()).verdict == "within"
    assert verify_one(world, world.Sum(), tolerance=Tolerance()).verdict == "different"


def test_what_cannot_be_compared_says_why(world: World) -> None:
    world.write("""
        from jubako.flow.targets.mock import MockTarget

        class There(ExternalTask):
            name = Parameter(default="there")
            def output(self): return LocalTarget(self.name)
        class Wrapped(WrapperTask):
            def requires(self): return There()
        class Bare(Task):
            def run(self): pass
            def complete(self): return True
        class Mock(Task):
            def output(self): return MockTarget("mock")
            def complete(self): return True
            def run(self): pass
        class Other(Task):
            def output(self): return OtherTarget()
            def run(self): pass
        class OtherTarget:
            def exists(self): return True
            def __str__(self): return "a row of a table"
        class Does(Task):
            what = Parameter()
            def requires(self): return There(name="absent") if self.what == "input" else []
            def output(self): return LocalTarget(self.what)
            def run(self):
                if self.what == "raises": raise ValueError("no rates")
                if self.what == "needs": yield There(name="absent")
                if self.what == "makes nothing": return
                with self.output().open("w") as file: file.write("new")
            def check(self): return self.what != "checked"
    """)
    for name in ("there", "input", "raises", "needs", "checked", "makes nothing"):
        Path(name).write_text("old")
    does = world.Does
    asked = {
        world.There(): ("external", "no task makes it"),
        world.Wrapped(): ("nothing_to_run", "it has no run() of its own; verify what it requires"),
        world.Bare(): ("no_outputs", "it has no outputs that could be compared"),
        world.Mock(): ("in_memory", "its outputs live in memory, so there is nothing published to compare with"),
        world.Other(): ("not_a_file", "a row of a table is no file of this machine"),
        does(what="absent"): ("not_done", "it is not done: absent is not there"),
        does(what="input"): (
            "input_missing",
            "it needs There(name=absent), which is not done: absent is not there",
        ),
        does(what="raises"): ("failed", "it failed when it was run again: ValueError: no rates"),
        does(what="needs"): ("needs_more", "its run() needs There(name=absent), not done yet"),
        does(what="checked"): ("failed", "check() refused what came out: check() of "),
    }
    found = verify(world, *asked, workers=2)
    assert not found
    assert found.counts["cannot"] == len(asked)
    for verdict in found.verdicts:
        reason, sentence = asked[verdict.task]
        assert (verdict.reason, verdict.sentence[: len(sentence)]) == (reason, sentence)
    unmade = verify_one(world, does(what="makes nothing"))
    assert unmade.describe() == f"{world.folder}/makes nothing: published a file, recomputed nothing"
    assert world.read("checked") == "old"


def test_output_or_input_that_changes_meanwhile_is_not_judged(world: World) -> None:
    world.write("""
        class Source(ExternalTask):
            def output(self): return LocalTarget("source")
        class Copy(Task):
            box = Box(binds=[os.path.abspath("../shared")])
            slow = IntParameter(default=0)
            def requires(self): return Source()
            def output(self): return LocalTarget("copy")
            def run(self):
                with self.input().open() as file: text = file.read()
                print("begun", flush=True)
                while self.slow and not os.path.exists("../shared/go"): time.sleep(0.01)
                with self.output().open("w") as file: file.write(text)
    """)
    Path("source").write_text("one")
    Path("copy").write_text("one")
    assert verify_one(world, world.Copy()).verdict == "same"

    class Disturber:
        def see(self, event: Any) -> None:
            if isinstance(event, TaskPrinted):
                Path("copy").write_text("another")
                (world.shared / "go").touch()

    found = verify_tasks(
        [world.Copy(slow=1)], state=str(world.state), pipeline=world.pipeline, observer=Disturber()
    ).verdicts[0]
    assert (found.verdict, found.reason) == ("cannot", "changed")
    assert found.sentence.startswith(f"{world.folder}/copy was changed: ")


def test_published_symbolic_link_is_followed_to_what_it_shows(world: World) -> None:
    world.write(CHANGING)
    Path("add").write_text("1")
    assert world.run(world.Sum())
    Path("sum1.csv").rename("elsewhere.csv")
    Path("sum1.csv").symlink_to("elsewhere.csv")
    assert verify_one(world, world.Sum()).verdict == "same"
    assert Path("sum1.csv").is_symlink()


def test_interrupt_ends_it_in_good_order(world: World) -> None:
    world.write("""
        class Waits(Task):
            n = IntParameter()
            def output(self): return LocalTarget(f"waits{self.n}")
            def run(self):
                print("begun", flush=True)
                time.sleep(600)
    """)
    for n in range(3):
        Path(f"waits{n}").touch()

    class Interrupter:
        def see(self, event: Any) -> None:
            if isinstance(event, TaskPrinted):
                os.kill(os.getpid(), signal.SIGINT)

    assert threading.current_thread() is threading.main_thread()
    found = verify_tasks(
        [world.Waits(n=n) for n in range(3)], state=str(world.state), pipeline=world.pipeline, observer=Interrupter()
    )
    assert (bool(found), found.is_interrupted, found.not_verified) == (False, True, 3)


def test_history_knows_a_verification_and_no_attempt(world: World) -> None:
    world.write(CHANGING)
    Path("add").write_text("1")
    assert world.run(world.Sum())
    found = verify(world, world.Sum(), world.Sum(n=2))
    with open_history(str(world.state)) as history:
        newest, run = history.list_runs(limit=2)
        assert (newest.run_id, newest.kind, newest.outcome) == (found.run_id, "verify", "failed")
        assert dict(newest.counts) == {"done": 1, "failed": 1}
        attempts = history.list_attempts(run.pipeline)
        assert [(attempt.run_id, attempt.outcome) for attempt in attempts] == [(run.run_id, "published")]
