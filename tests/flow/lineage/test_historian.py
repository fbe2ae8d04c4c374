"""What a run tells of itself as lineage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jubako.errors import HostError, InputError
from jubako.flow.lineage.destination import Lineage
from jubako.flow.notices.hooks import Secret
from jubako.flow.parameters import IntParameter, Parameter, ParameterVisibility
from jubako.flow.run.runner import run
from jubako.flow.targets.local_target import LocalTarget
from jubako.flow.targets.target import Target
from jubako.flow.tasks.task import ExternalTask, Task, WrapperTask


class There(Target):
    def exists(self) -> bool:
        return True


class Raw(ExternalTask):
    folder = Parameter()

    def output(self) -> Any:
        return LocalTarget(f"{self.folder}/raw.csv")


class Work(Task):
    folder = Parameter()
    n = IntParameter(default=1)
    password = Parameter(default="hunter2!", visibility=ParameterVisibility.PRIVATE)
    retry_count = 2

    def requires(self) -> Any:
        return Raw(self.folder)

    def output(self) -> Any:
        return LocalTarget(f"{self.folder}/work-{self.n}")

    def run(self) -> None:
        if self.n == 13:
            raise ValueError(f"no login with {self.password}")
        if self.n == 14:
            raise KeyboardInterrupt
        if self.n == 2:
            yield Work(self.folder, 1)
        with self.output().open("w") as file:
            file.write("made")


class Unknowing(Work):
    def input(self) -> Any:
        raise KeyError("no such thing")


class Both(WrapperTask):
    folder = Parameter()

    def requires(self) -> Any:
        return [Work(self.folder, 1), Work(self.folder, 13)]


@pytest.fixture
def told(tmp_path: Path) -> Any:
    """Runs tasks; the result, and for each event its kind, its job, and the event itself."""
    (tmp_path / "raw.csv").touch()

    def work(*tasks: Task, **options: Any) -> tuple[Any, list[tuple[str, str, Any]]]:
        path = tmp_path / "events.jsonl"
        options = {"state": str(tmp_path / "state"), "lineage": Lineage(str(path)), **options}
        result = run(tasks, box="none", **options)
        events = [json.loads(line) for line in path.read_text().splitlines()]
        return result, [(event["eventType"], event["job"]["name"], event) for event in events]

    return work


def test_run_and_its_tasks_are_told_of_with_what_they_read_and_make(told: Any, tmp_path: Path) -> None:
    result, events = told(Work(str(tmp_path)))
    name = "test_historian"
    assert [event[:2] for event in events] == [
        ("START", name),
        ("START", f"{name}.Work"),
        ("COMPLETE", f"{name}.Work"),
        ("COMPLETE", name),
    ]
    assert result.notes == ()
    complete = events[2][2]
    assert complete["inputs"] == [{"namespace": "file", "name": f"{tmp_path}/raw.csv"}]
    assert complete["outputs"] == [{"namespace": "file", "name": f"{tmp_path}/work-1"}]
    assert events[1][2]["run"]["runId"] == complete["run"]["runId"]


def test_failed_attempts_are_runs_of_their_own_and_say_why(told: Any, tmp_path: Path) -> None:
    _, events = told(Both(str(tmp_path)))
    failed = [event for kind, _, event in events if kind == "FAIL"]
    assert [event["job"]["name"].rpartition(".")[2] for event in failed] == ["Work", "Work", "test_historian"]
    assert len({event["run"]["runId"] for event in failed}) == 3
    assert [event["run"]["facets"]["errorMessage"]["message"].rpartition(": ")[2] for event in failed] == (
        ["no login with ***"] * 3
    )
    assert "hunter2" not in (tmp_path / "events.jsonl").read_text()
    assert not any(name.endswith("Both") for _, name, _ in events)  # it makes nothing itself


def test_task_that_asks_for_more_is_one_run_that_goes_on(told: Any, tmp_path: Path) -> None:
    _, events = told(Work(str(tmp_path), 2))
    of_it = [kind for kind, _, event in events if "n=2" in str(event["run"]["facets"].get("jubako_task"))]
    assert (of_it[0], of_it[-1]) == ("START", "COMPLETE")
    assert set(of_it[1:-1]) <= {"RUNNING"}


def test_interrupted_run_ends_what_it_had_begun(told: Any, tmp_path: Path) -> None:
    result, events = told(Work(str(tmp_path), 14))
    assert result.interrupted
    assert [kind for kind, _, _ in events] == ["START", "START", "ABORT", "ABORT"]


def test_run_that_lacks_an_input_has_failed(told: Any, tmp_path: Path) -> None:
    (tmp_path / "raw.csv").unlink()
    _, events = told(Work(str(tmp_path)))
    assert [kind for kind, _, _ in events] == ["START", "FAIL"]
    assert "raw.csv" in events[-1][2]["run"]["facets"]["errorMessage"]["message"]


def test_task_that_cannot_say_what_it_reads_is_told_of_without_and_named_once(told: Any, tmp_path: Path) -> None:
    result, events = told(Unknowing(str(tmp_path)), Unknowing(str(tmp_path), 3))
    assert result.everything_there
    assert result.notes == (
        f"lineage of Unknowing(folder={tmp_path}, n=1, password=***) and 1 more lacks its datasets: "
        "input() or output() raised an exception",
    )
    assert [event["outputs"] for kind, _, event in events if kind == "COMPLETE"] == [[], [], []]


def test_run_that_is_refused_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    path = tmp_path / "events.jsonl"
    with pytest.raises((InputError, HostError)):
        run([Raw(str(tmp_path))], box="none", state=str(tmp_path / "state"), lineage=Lineage(str(path)))
    assert [json.loads(line)["eventType"] for line in path.read_text().splitlines()] == ["START", "FAIL"]


def test_events_that_are_lost_are_a_note(told: Any, tmp_path: Path, web: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    web.script = [400]
    (tmp_path / "events.jsonl").touch()
    result, _ = told(Work(str(tmp_path)), lineage=Lineage(web.url))
    assert result.everything_there
    (note,) = result.notes
    assert note.startswith("4 events of lineage did not get to 127.0.0.1:")
    assert note.endswith(": the collector answered 400 Bad Request")


def test_collector_without_its_key_is_refused_before_anything_runs(tmp_path: Path) -> None:
    lineage = Lineage("http://127.0.0.1:1", api_key=Secret(env="NO_SUCH_KEY"))
    with pytest.raises(InputError, match="the environment has no NO_SUCH_KEY"):
        run([Raw(str(tmp_path))], box="none", state=str(tmp_path / "state"), lineage=lineage)
    assert not (tmp_path / "state").exists()
