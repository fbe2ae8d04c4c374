"""`jubako history`: what it lists, of what, and what it says where there is nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jubako.flow.ledger.ledger import AttemptRecord

from .conftest import Past, Said

GOOD = AttemptRecord("1", "Day_1", "Day(n=1)", "published", started_s=1_700_000_000.0, wall_s=0.25, undeclared=["/x"])
BAD = AttemptRecord("2", "Day_2", "Day(n=2)", "failed", error="it \x1b[31mbroke\nbadly", started_s=1_700_000_001.0)
Say = Callable[..., Said]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "own_days.py"
    path.touch()
    return str(path)


def test_runs_are_listed_with_what_came_of_them(past: Past, say: Say, file: str) -> None:
    past.record("r1", file, GOOD)
    past.record("r2", "/other.py", BAD, status="FAILED")
    said = say("history")
    assert (said.code, said.err) == (0, "")
    assert [line.split() for line in said.out.splitlines()] == [
        ["STARTED", "TOOK", "OUTCOME", "DONE", "FAILED", "UNDECLARED", "BOX", "RUN", "ASKED"],
        ["2023-11-14", "22:13:20", "1", "min", "30", "s", "failed", "0", "1", "0", "none", "r2", "a", "test"],
        ["2023-11-14", "22:13:20", "1", "min", "30", "s", "ok", "1", "0", "1", "none", "r1", "a", "test"],
    ]
    assert "r2" not in say("history", file).out
    assert "r1" not in say("history", "--failed").out


def test_attempts_of_a_task_show_their_run_and_the_first_line_of_the_error(past: Past, say: Say, file: str) -> None:
    past.record("r1", file, GOOD, BAD, status="FAILED")
    lines = say("history", file, "Day").out.splitlines()
    assert lines[1].endswith(r"failed              0  none  r1   Day(n=2)  it \x1b[31mbroke")
    assert lines[2].endswith("published           1  none  r1   Day(n=1)  -")
    assert say("history", file, "Day(n=1)").out.splitlines()[1:] == [lines[2]]


def test_attempts_of_a_run_begin_with_the_run(past: Past, say: Say, file: str) -> None:
    past.record("r1", file, GOOD, BAD, status="FAILED")
    said = say("history", "r1", "--failed")
    assert said.out.splitlines()[0] == "r1: a test, failed, not boxed, started 2023-11-14 22:13:20"
    assert "Day(n=1)" not in said.out


def test_history_for_programs_holds_all_that_is_known(past: Past, say: Say, file: str) -> None:
    past.record("r1", file, GOOD, BAD, status="FAILED")
    runs = json.loads(say("history", "--format", "json").out)
    assert runs["schema"] == "jubako.history.runs/1"
    assert runs["runs"] == [
        {
            "run": "r1",
            "pipeline": file,
            "asked": "a test",
            "kind": "run",
            "outcome": "failed",
            "status": "FAILED",
            "mode": "none",
            "pid": 1,
            "started": "2023-11-14T22:13:20.000+00:00",
            "ended": "2023-11-14T22:14:50.000+00:00",
            "took_s": 90.0,
            "counts": {"done": 1, "failed": 1},
            "undeclared": 1,
        }
    ]
    attempts = json.loads(say("history", "r1", "--format", "json").out)
    assert attempts["run"]["outcome"] == "failed"
    assert [(a["task"], a["error"], a["undeclared"]) for a in attempts["attempts"]] == [
        ("Day(n=2)", "it \x1b[31mbroke\nbadly", []),
        ("Day(n=1)", None, ["/x"]),
    ]
    rows = list(csv.DictReader(io.StringIO(say("history", file, "Day", "--format", "csv").out)))
    assert [(row["task"], row["outcome"]) for row in rows] == [("Day(n=2)", "failed"), ("Day(n=1)", "published")]


def test_more_than_is_shown_is_said(past: Past, say: Say, file: str) -> None:
    for number in range(3):
        past.record(f"r{number}", file, GOOD, BAD)
    assert say("history", "--last", "2").err == "These are the newest 2; --last shows more.\n"
    assert say("history", "--last", "3").err == ""
    assert say("history", "r1", "--last", "1").err == "These are the newest 1; --last shows more.\n"


def test_history_of_nothing_says_so(past: Past, say: Say) -> None:
    assert say("history") == (0, "", "Nothing has been run yet.\n")
    assert say("history", "--failed") == (0, "", "No run has failed.\n")
    assert json.loads(say("history", "--format", "json").out) == {"schema": "jubako.history.runs/1", "runs": []}


@pytest.mark.parametrize(
    ("words", "sentence", "hint"),
    [
        (("nonsense",), "no pipeline and no run nonsense", "lists the runs"),
        (("20231114T1",), "2 runs have an id that starts with 20231114T1", "20231114T11-a"),
        (("FILE", "Dya"), "no attempt at Dya is remembered", "did you mean Day?"),
        (("EMPTY",), "nothing of EMPTY has been run yet", "jubako run EMPTY"),
        (("FILE", "--last", "0"), "--last", "--help"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(
    past: Past, say: Say, file: str, tmp_path: Path, words: tuple[str, ...], sentence: str, hint: str
) -> None:
    (tmp_path / "empty.py").touch()
    names = {"FILE": file, "EMPTY": str(tmp_path / "empty.py")}
    past.record("20231114T10-a", file, GOOD)
    past.record("20231114T11-a", file, GOOD)
    said = say("history", *(names.get(word, word) for word in words))
    error, *more = said.err.splitlines()
    assert (said.code, said.out) == (2, "")
    assert sentence.replace("EMPTY", names["EMPTY"]) in error
    assert any(hint.replace("EMPTY", names["EMPTY"]) in line for line in more)


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("jubako history 2023", "plain,20231114T10-a"),
        ("jubako logs 2023", "plain,20231114T10-a"),
        ("jubako backfill --pause 2023", "plain,20231114T10-a"),
        ("jubako history FILE D", "plain,Day"),
        ("jubako logs 2023 D", "plain,Day"),
    ],
)
def test_runs_and_tasks_complete_from_what_was_run(
    past: Past, say: Say, file: str, monkeypatch: pytest.MonkeyPatch, line: str, completed: str
) -> None:
    past.record("20231114T10-a", file, GOOD)
    words = line.replace("FILE", file)
    environment = {"_JUBAKO_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert say().out.splitlines()[0] == completed
