"""`jubako notify test`, and the hooks of a jubako.toml at the commands that run something."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PIPELINE = """
import os
from jubako import IntParameter, LocalTarget, Task, schedule

if os.environ.get("BROKEN"):
    raise RuntimeError("no such table")

class Job(Task):
    n = IntParameter(default=0)
    def run(self):
        raise ValueError("no rows")

@schedule("0 6 * * *", name="nightly")
def nightly(moment):
    if os.environ.get("UNSURE"):
        raise KeyError("no such city")
    return [Job(n=1)]
"""
SETTINGS = """
[[notify]]
name = "keep"
command = ["sh", "-c", "cat >> told"]

[[notify]]
name = "cheer"
command = ["sh", "-c", "echo no channel; exit 1"]
on = ["success"]
"""
LINES = ["--box", "none"]


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / f"pipeline_{abs(hash(request.node.name))}"
    folder.mkdir()
    file = folder / f"{folder.name}_jobs.py"  # a name of its own, since it is imported into this process
    file.write_text(PIPELINE)
    (folder / "jubako.toml").write_text(SETTINGS)
    monkeypatch.setenv("JUBAKO_STATE", str(tmp_path / "state"))
    return file


def told(pipeline: Path) -> list[Any]:
    file = pipeline.parent / "told"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_trial_is_sent_by_every_hook_and_says_what_came_of_it(pipeline: Path, say: Callable[..., Any]) -> None:
    said = say("notify", "test", str(pipeline), "--format", "json")
    assert said.code == 1
    hooks = json.loads(said.out)["hooks"]
    assert [(hook["hook"], hook["result"]) for hook in hooks] == [
        ("keep", "delivered"),
        ("cheer", "exit code 1: no channel"),
    ]
    assert [message["event"] for message in told(pipeline)] == ["test"]
    assert say("notify", "test", str(pipeline), "--hook", "keep").code == 0


def test_trial_needs_a_hook_of_the_name(pipeline: Path, say: Callable[..., Any]) -> None:
    said = say("notify", "test", str(pipeline), "--hook", "kep")
    assert (said.code, said.err) == (2, "Error: there is no hook 'kep'\nhint: there is keep, cheer\n")


def test_trial_without_hooks_says_where_they_would_be(pipeline: Path, say: Callable[..., Any]) -> None:
    said = say("notify", "test", str(pipeline), "--config", "none")
    assert said.code == 2
    assert "nobody is told of runs of" in said.err
    assert "[[notify]] in a jubako.toml beside it" in said.err


def test_run_tells_the_hooks_beside_its_pipeline(pipeline: Path, say: Callable[..., Any]) -> None:
    said = say("run", str(pipeline), "Job", *LINES)
    assert said.code == 1
    assert [message["summary"].partition(" on ")[0] for message in told(pipeline)] == ["Job(n=0) failed"]


@pytest.mark.parametrize("none", [["--config", "none"], ["--config=none"]])
def test_run_tells_nobody_where_that_is_asked_for(pipeline: Path, say: Callable[..., Any], none: list[str]) -> None:
    assert say("run", str(pipeline), "Job", *LINES, *none).code == 1
    assert told(pipeline) == []


def test_settings_that_make_no_sense_are_refused_before_anything_runs(
    pipeline: Path, say: Callable[..., Any], tmp_path: Path
) -> None:
    (pipeline.parent / "jubako.toml").write_text("[[notify]]\ncomand = ['x']")
    said = say("run", str(pipeline), "Job", *LINES)
    assert said.code == 2
    assert "jubako.toml: [[notify]] number 1: it has none of command, webhook, mail" in said.err
    assert not (tmp_path / "state").exists()


def test_firing_of_a_schedule_tells_the_same_hooks(pipeline: Path, say: Callable[..., Any]) -> None:
    assert say("schedule", str(pipeline), "--fire", "nightly", "--at", "2026-03-14T06:00", *LINES).code == 1
    assert [message["asked"] for message in told(pipeline)] == ["Job(n=1)"]


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["run", "PIPELINE", "Job"], "Job"),
        (["backfill", "PIPELINE", "Job", "--from", "2026-01-01", "--to", "2026-01-02"], "Job"),
        (["schedule", "PIPELINE", "--fire", "nightly", "--at", "2026-03-14T06:00"], "nightly"),
    ],
)
def test_pipeline_that_cannot_be_imported_is_told_of(
    pipeline: Path, say: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, words: list[str], asked: str
) -> None:
    monkeypatch.setenv("BROKEN", "1")
    said = say(*(str(pipeline) if word == "PIPELINE" else word for word in words))
    assert said.code == 2
    (message,) = told(pipeline)
    assert (message["outcome"], message["asked"]) == ("failure", asked)
    assert "importing the pipeline failed: RuntimeError: no such table" in message["problem"]


def test_schedule_that_cannot_say_what_to_run_is_told_of(
    pipeline: Path, say: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNSURE", "1")
    assert say("schedule", str(pipeline), "--fire", "nightly", "--at", "2026-03-14T06:00").code == 2
    (message,) = told(pipeline)
    assert (message["outcome"], message["asked"]) == ("failure", "nightly")
    assert "no such city" in message["problem"]


def test_looking_at_a_pipeline_that_cannot_be_imported_tells_nobody(
    pipeline: Path, say: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN", "1")
    for words in (["run", str(pipeline)], ["run", str(pipeline), "Job", "--help"], ["why", str(pipeline), "Job"]):
        say(*words)
    assert told(pipeline) == []
