"""Outputs in stores of boxed tasks: sent when the task has ended well and was checked, before anything is published."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jubako.flow.executors.performing import Performed
from jubako.flow.executors.uploading import upload
from jubako.flow.stores.store_target import StoreTarget
from s3_server import Bucket

SOURCE = str(Path(__file__).parents[2] / "src")


# --- the step itself, in a child as it is meant to be


def send(in_child: Callable[..., Any], *uploads: tuple[Any, str]) -> Performed:
    def perform() -> tuple[str, str]:
        done = upload(uploads)
        return done.outcome, done.error

    outcome, error = in_child(perform)
    return Performed(outcome, error)


class Recorded:
    """A target that notes what is done with it."""

    def __init__(self, name: str, notes: Path, fails: str = "") -> None:
        self.name, self.notes, self.fails = name, notes, fails

    def __str__(self) -> str:
        return self.name

    def note(self, step: str) -> None:
        with self.notes.open("a") as file:
            file.write(f"{step} {self.name}\n")
        if step == self.fails:
            raise RuntimeError(f"{step} of {self.name}")

    def exists(self) -> bool:
        return self.fails != "exists"

    def begin_upload(self, staged: str) -> Recorded:
        self.note("begin")
        return self

    def commit(self) -> None:
        self.note("commit")

    def discard(self) -> None:
        self.note("discard")


def test_all_bytes_are_sent_before_the_first_is_shown(tmp_path: Path, in_child: Callable[..., Any]) -> None:
    notes = tmp_path / "notes"
    a, b = Recorded("a", notes), Recorded("b", notes)
    assert send(in_child, (a, "x"), (b, "y")).outcome == "ok"
    assert notes.read_text().splitlines() == ["begin a", "begin b", "commit a", "commit b"]


def test_failure_before_anything_is_shown_gives_up_all(tmp_path: Path, in_child: Callable[..., Any]) -> None:
    notes = tmp_path / "notes"
    a, b = Recorded("a", notes), Recorded("b", notes, fails="begin")
    assert send(in_child, (a, "x"), (b, "y")) == Performed("failed", "RuntimeError: begin of b")
    assert notes.read_text().splitlines() == ["begin a", "begin b", "discard a"]


def test_failure_in_between_names_what_is_there_already(tmp_path: Path, in_child: Callable[..., Any]) -> None:
    notes = tmp_path / "notes"
    a, b, c = Recorded("a", notes), Recorded("b", notes, fails="commit"), Recorded("c", notes)
    done = send(in_child, (a, "x"), (b, "y"), (c, "z"))
    assert done.error == "RuntimeError: commit of b; a had been sent by then, and stays"
    assert notes.read_text().splitlines()[-1] == "discard c"


def test_output_neither_staged_nor_there_is_missing(tmp_path: Path, in_child: Callable[..., Any]) -> None:
    notes = tmp_path / "notes"
    there, missing = Recorded("there", notes), Recorded("missing", notes, fails="exists")
    assert send(in_child, (there, "")).outcome == "ok"
    assert send(in_child, (Recorded("a", notes), "x"), (missing, "")).error == "run() ended and did not make missing"
    assert "commit a" not in notes.read_text()


def test_output_that_is_not_there_is_named_where_that_is_no_failure(
    tmp_path: Path, in_child: Callable[..., Any]
) -> None:
    notes = tmp_path / "notes"
    uploads = [(Recorded("a", notes), "x"), (Recorded("missing", notes, fails="exists"), "")]

    def perform() -> tuple[str, object]:
        done = upload(uploads, "name")
        return done.outcome, done.unmade

    assert in_child(perform) == ("ok", ["missing"])
    assert "commit a" in notes.read_text()


def test_interrupt_while_bytes_are_sent_leaves_nothing(
    bucket: Bucket, tmp_path: Path, in_child: Callable[..., Any]
) -> None:
    class Interrupted(Recorded):
        def begin_upload(self, staged: str) -> Recorded:
            os.kill(os.getpid(), signal.SIGTERM)
            return self

    (tmp_path / "big").write_bytes(b"x" * (17 << 20))
    target = StoreTarget(f"{bucket.url}/big")
    done = send(in_child, (target, str(tmp_path / "big")), (Interrupted("b", tmp_path / "notes"), "y"))
    assert done == Performed("cancelled", "it was interrupted")
    assert f"POST /{bucket.name}/big?uploads" in bucket.take_requests()
    assert (bucket.list_keys(), bucket.unfinished()) == ([], [])


# --- in a run

PIPELINE = """
import os, time
from pathlib import Path
from jubako import Box, LocalTarget, StoreFolderTarget, StoreTarget, Task, WrapperTask

BUCKET = os.environ["BUCKET"]

class Report(Task):
    text: str = "good"
    def output(self):
        return [StoreTarget(f"{BUCKET}/{self.text}"), LocalTarget(f"{self.text}.txt")]
    def run(self):
        for target in self.output():
            with target.open("w") as file:
                file.write(self.text)
        if self.text == "raises":
            raise RuntimeError("oh no")
    def check(self):
        with self.output()[0].open() as file:
            return file.read() != "bad"

class Next(Task):
    def requires(self):
        return Report()
    def output(self):
        return StoreTarget(f"{BUCKET}/next")
    def run(self):
        with self.input()[0].open() as file, self.output().open("w") as mine:
            mine.write(file.read() + " and next")

class Set(Task):
    box = Box(network="none")
    def output(self):
        return [StoreTarget(f"{BUCKET}/set/a"), StoreFolderTarget(f"{BUCKET}/set/day"), StoreTarget(f"{BUCKET}/set/b")]
    def run(self):
        a, day, b = self.output()
        with b.open("w") as file:
            file.write("b")
        with day.temporary_path() as folder:
            Path(folder, "part").write_text("part")
        with a.temporary_path() as path:
            Path(path).write_text("a")

class Direct(Task):
    def output(self):
        return StoreFolderTarget(f"{BUCKET}/direct")
    def run(self):
        import boto3, sys
        boto3.client("s3").put_object(Bucket=BUCKET[5:], Key="direct/part", Body=b"x")
        self.output().mark()

class Forgets(Task):
    def output(self):
        return StoreTarget(f"{BUCKET}/forgotten")
    def run(self):
        pass

class Split(Task):
    def output(self):
        return [StoreTarget(f"{BUCKET}/split"), StoreTarget("s3://no-such-bucket/split"), LocalTarget("split.txt")]
    def complete(self):
        return False
    def run(self):
        for target in self.output():
            with target.open("w") as file:
                file.write("x")

class All(WrapperTask):
    def requires(self):
        return [Next(), Set(), Direct(), Forgets(), Split(), Memory(), Report("bad"), Report("raises")]

class Memory(Task):
    def output(self):
        return StoreTarget("memory://store/a")
    def run(self):
        with self.output().open("w") as file:
            file.write("x")
"""


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "pipeline.py").write_text(PIPELINE)
    return folder


@pytest.fixture(scope="module")
def jubako(bucket_of_module: Bucket, folder: Path) -> Run:
    """Runs `jubako` in a folder with the pipeline."""
    environment = {
        **os.environ,
        **bucket_of_module.server.environment,
        "BUCKET": bucket_of_module.url,
        "JUBAKO_STATE": str(folder / "state"),
        "PYTHONPATH": SOURCE,
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jubako", *words]
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == code, result.stdout + result.stderr
        assert os.listdir(folder / "state" / "stage") == []
        return result

    return run


@pytest.fixture(scope="module")
def verify(jubako: Run) -> Run:
    return partial(jubako, "verify", "pipeline.py")


@pytest.fixture(scope="module")
def ran(jubako: Run) -> subprocess.CompletedProcess[str]:
    """One run of everything in the pipeline."""
    return jubako("run", "pipeline.py", "All", "--workers", "2", code=1)


@pytest.fixture(scope="module")
def requests(ran: object, bucket_of_module: Bucket) -> list[str]:
    return bucket_of_module.take_requests()


@pytest.mark.box
def test_output_in_a_store_is_there_after_the_task_and_dependents_read_it(
    ran: subprocess.CompletedProcess[str], bucket_of_module: Bucket, folder: Path
) -> None:
    found = bucket_of_module.contents()
    assert (found["good"], found["next"]) == (b"good", b"good and next")
    assert (folder / "good.txt").read_text() == "good"
    assert "each in a box" in ran.stdout
    assert "Unclosed" not in ran.stderr


@pytest.mark.box
@pytest.mark.parametrize("text", ["bad", "raises"])
def test_task_that_fails_or_is_refused_sends_nothing(
    requests: list[str], bucket_of_module: Bucket, folder: Path, text: str
) -> None:
    about = [request for request in requests if request.split()[1] == f"/{bucket_of_module.name}/{text}"]
    assert about and not [request for request in about if not request.startswith(("GET", "HEAD"))]
    assert not (folder / f"{text}.txt").exists()


@pytest.mark.box
def test_set_of_outputs_is_sent_in_the_order_declared_also_from_a_box_without_network(
    requests: list[str], bucket_of_module: Bucket
) -> None:
    beginning = f"PUT /{bucket_of_module.name}/set/"
    sent = [request.removeprefix(beginning) for request in requests if request.startswith(beginning)]
    assert sent == ["a", "day/part", "day/_SUCCESS", "b"]
    found = bucket_of_module.contents()
    assert (found["set/a"], found["set/b"], found["set/day/part"]) == (b"a", b"b", b"part")


@pytest.mark.box
def test_what_a_task_puts_into_a_store_itself_counts(ran: object, bucket_of_module: Bucket) -> None:
    assert [key for key in bucket_of_module.list_keys() if key.startswith("direct/")] == [
        "direct/_SUCCESS",
        "direct/part",
    ]


@pytest.mark.box
def test_output_that_was_not_made_is_named(ran: subprocess.CompletedProcess[str], bucket_of_module: Bucket) -> None:
    assert f"Forgets(): run() ended and did not make {bucket_of_module.url}/forgotten" in ran.stdout


@pytest.mark.box
def test_failure_in_the_middle_of_a_set_leaves_the_task_incomplete_and_says_what_is_there(
    ran: subprocess.CompletedProcess[str], bucket_of_module: Bucket, folder: Path
) -> None:
    assert (
        "Split(): s3://no-such-bucket/split: there is no bucket 'no-such-bucket' (make it first, or correct the name); "
        f"{bucket_of_module.url}/split had been sent by then, and stays" in ran.stdout
    )
    assert "split" in bucket_of_module.list_keys()
    assert not (folder / "split.txt").exists()  # files of this machine come last


@pytest.mark.box
def test_store_in_memory_makes_its_task_run_in_the_process(ran: subprocess.CompletedProcess[str]) -> None:
    assert "Memory makes targets that live in memory" in ran.stderr


def test_run_without_boxes_sends_when_files_are_closed(jubako: Run, bucket_of_module: Bucket, folder: Path) -> None:
    jubako("run", "pipeline.py", "Report", "--text", "unboxed", "--box", "none", "--workers", "2")
    assert bucket_of_module.contents()["unboxed"] == b"unboxed"
    assert (folder / "unboxed.txt").exists()


@pytest.mark.box
def test_what_is_made_again_is_compared_with_what_is_in_the_store(
    ran: object, verify: Run, bucket_of_module: Bucket
) -> None:
    assert "1 verified = 1 same" in verify("Report").stdout
    assert "1 verified = 1 same" in verify("Set").stdout
    bucket_of_module.put("next", b"changed")
    assert f"{bucket_of_module.url}/next" in verify("Next", code=1).stdout
    assert "the task has put it into the store itself" in verify("Direct", code=1).stdout


SLOW = """
class Slow(Report):
    def output(self):
        there = {"endpoint_url": "http://127.0.0.1:%d"}
        return [StoreTarget(f"{BUCKET}/slow", storage_options=there), LocalTarget("slow.txt")]
    def complete(self):
        return os.path.exists("slow.txt")
"""


@pytest.mark.box
def test_run_that_is_killed_while_it_sends_publishes_nothing(jubako: Run, bucket: Bucket, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        (folder / "slow.py").write_text(PIPELINE + SLOW % mute.getsockname()[1])
        environment = {**os.environ, "BUCKET": bucket.url, "JUBAKO_STATE": str(folder / "state"), "PYTHONPATH": SOURCE}
        command = [sys.executable, "-m", "jubako", "run", "slow.py", "Slow"]
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as run:
            mute.accept()[0].close()
            run.send_signal(signal.SIGKILL)
    assert not (folder / "slow.txt").exists()
    jubako("run", "pipeline.py", "Report")  # what the other has staged is gone, and nothing of it was published
    assert not (folder / "slow.txt").exists()
