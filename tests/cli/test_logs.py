"""`jubako logs`: what it prints of which run. Following one that lives is in `tests/system/test_follow.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jubako.flow.ledger.ledger import AttemptRecord

from .conftest import Past, Said

Say = Callable[..., Said]
SOURCE = str(Path(__file__).parents[2] / "src")


def attempt(number: int, outcome: str = "published", error: str = "") -> AttemptRecord:
    return AttemptRecord(str(number), f"Day_{number}", f"Day(n={number})", outcome, error)


def put_log(past: Past, run_id: str, number: int, content: bytes) -> None:
    folder = Path(past.state.logs_path, run_id)
    folder.mkdir(exist_ok=True)
    (folder / f"{number}.log").write_bytes(content)


@pytest.fixture
def three(past: Past) -> Past:
    """A run of three tasks: one prints, one prints without an end and fails, one says nothing."""
    past.record("r1", "p.py", attempt(1), attempt(2, "failed", "it broke\nbadly"), attempt(3), status="FAILED")
    put_log(past, "r1", 1, b"one\ntwo\nthree\n")
    put_log(past, "r1", 2, b"\x1b[31m no end")
    return past


def test_logs_of_a_run_have_a_heading_each(three: Past, say: Say) -> None:
    assert say("logs", "r1") == Said(
        0,
        "==> Day(n=1), published <==\none\ntwo\nthree\n==> Day(n=2), failed: it broke <==\n\x1b[31m no end\n",
        "",
    )


def test_log_of_one_task_is_as_it_was_printed(three: Past, say: Say) -> None:
    assert say("logs", "r1", "Day(n=1)", "--tail", "2") == Said(0, "two\nthree\n", "")
    assert say("logs", "r1", "Day(n=2)").err == "Day(n=2), failed: it broke\n"
    assert say("logs", "r1", "Day_3") == Said(0, "", "Day(n=3) printed nothing.\n")


def test_log_in_a_pipe_is_the_bytes_that_were_printed(three: Past) -> None:
    put_log(three, "r1", 1, b"\xff\x1b[31m" + "\N{LATIN SMALL LETTER E WITH ACUTE}".encode() * 40_000 + b"\n")
    command = [sys.executable, "-m", "jubako", "logs", "r1", "Day(n=1)"]
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": SOURCE}, capture_output=True, check=True)
    assert result.stdout == Path(three.state.logs_path, "r1", "1.log").read_bytes()


def test_logs_without_a_run_are_those_of_the_newest(three: Past, say: Say) -> None:
    three.record("r2", "p.py", attempt(1))
    assert say("logs") == Said(0, "", "Run r2: a test\nNo task has printed anything.\n")


def test_logs_of_a_task_without_a_run_are_of_the_newest_that_tried_it(three: Past, say: Say) -> None:
    three.record("r2", "p.py", AttemptRecord("1", "Other", "Other()", "published"), status="SUCCESS")
    assert say("logs", "Day(n=1)", "--tail", "1") == Said(0, "three\n", "")
    assert "==> Day(n=2), failed" in say("logs", "Day").out
    assert say("logs", "Dya").code == 2


def test_terminal_gets_nothing_it_could_obey(three: Past, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert say("logs", "r1", "Day(n=2)").out == "\\x1b[31m no end\n"


def test_following_a_run_that_is_over_prints_it_and_tells_how_it_ended(three: Past, say: Say) -> None:
    said = say("logs", "r1", "--follow", "--tail", "1")
    assert said == Said(
        1,
        "attempt 1 | three\nattempt 2 | \\x1b[31m no end\n",
        "Run r1: failed (2 done, 1 failed).\n",
    )
    three.record("r2", "p.py", attempt(1))
    assert say("logs", "-f") == Said(0, "", "Run r2: ok (1 done).\n")


def test_following_shows_all_of_a_flood(three: Past, say: Say) -> None:
    put_log(three, "r1", 1, b"a line of a flood\n" * 10_000)
    assert say("logs", "-f").out.count("attempt 1 | a line of a flood\n") == 10_000


@pytest.mark.parametrize(
    ("words", "sentence", "hint"),
    [
        (("r9",), "there is no run r9", "r1"),
        (("r1", "Dya"), "run r1 has not tried Dya", "did you mean Day?"),
        (("r1", "--tail", "-1"), "--tail", "--help"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(
    three: Past, say: Say, words: tuple[str, ...], sentence: str, hint: str
) -> None:
    said = say("logs", *words)
    assert said.code == 2
    assert sentence in said.err
    assert hint in said.err.partition("\n")[2]


def test_logs_before_any_run_say_what_makes_some(past: Past, say: Say) -> None:
    assert say("logs").err.startswith("Error: nothing has been run yet")
    assert os.listdir(past.state.logs_path) == []
