"""`jubako verify`: its lines, its data, exit codes, refusals. Verdicts are in `tests/system/run/test_verify.py`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jubako.flow.tasks.register import Register

from .conftest import Past, Said

Say = Callable[..., Said]
PIPELINE = """
import datetime
from jubako import LocalTarget, Task, Parameter

class Day(Task):
    date: datetime.date
    name = Parameter(default="x")

    def output(self):
        return LocalTarget(f"{self.date}.txt")

    def run(self):
        with self.output().open("w") as file:
            file.write(f"{self.date}\\n")
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    classes = list(Register._reg)
    path = tmp_path / f"verify_{tmp_path.name.replace('-', '_')}.py"
    path.write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    for day in range(1, 5):
        Path(f"2010-01-0{day}.txt").write_text(f"2010-01-0{day}\n")
    yield str(path)
    Register._reg[:] = classes
    Register.clear_instance_cache()


@pytest.mark.box
def test_verify_of_one_task_shows_each_output(past: Past, say: Say, file: str, tmp_path: Path) -> None:
    said = say("verify", file, "Day", "--date", "2010-01-01")
    lines = said.out.splitlines()
    assert said.code == 0
    assert lines[1:3] == [
        "Day(date=2010-01-01, name=x): same",
        f"    same       {tmp_path}/2010-01-01.txt: the same bytes",
    ]
    assert lines[3].startswith("1 verified = 1 same, each made again in a box, ")
    Path("2010-01-01.txt").write_text("2010-01-\x1b[1m\n")
    said = say("verify", file, "Day", "--date", "2010-01-01")
    assert said.code == 1
    assert "Day(date=2010-01-01, name=x): DIFFERENT" in said.out
    assert r'published "2010-01-\u001b[1m\n", recomputed "2010-01-01\n"' in said.out


@pytest.mark.box
def test_verify_of_a_range_counts_what_is_not_done(past: Past, say: Say, file: str) -> None:
    line = ("verify", file, "Day", "--from", "2010-01-01", "--to", "2010-01-06")
    said = say(*line)
    assert said.code == 1
    plan = "Day 2010-01-01...2010-01-05: 5 wanted, 4 done; 1 not done: 2010-01-05"
    assert said.out.splitlines()[0] == plan
    assert "4 verified = 4 same, " in said.out
    sampled = say(*line, "--sample", "50%", "--seed", "3", "--format", "json")
    assert sampled.code == 0
    document = json.loads(sampled.out)
    assert document["schema"] == "jubako.verify/1"
    assert (document["agrees"], document["verdicts"]["same"], document["range"]["seed"]) == (True, 2, 3)
    assert document["range"]["not_done"] == ["2010-01-05"]
    again = json.loads(say(*line, "--sample", "2", "--seed", "3", "--format", "json").out)
    assert [row["task"] for row in again["outputs"]] == [row["task"] for row in document["outputs"]]
    assert [(row["verdict"], row["how"]) for row in again["outputs"]] == [("same", "bytes")] * 2


@pytest.mark.box
def test_verify_writes_a_page_with_every_output_and_replaces_nothing_else(past: Past, say: Say, file: str) -> None:
    Path("2010-01-02.txt").write_text("2010-01-<b>\n")
    words = ["verify", file, "Day", "--from", "2010-01-01", "--to", "2010-01-04", "--html", "report.html"]
    said = say(*words)
    page = Path("report.html").read_text()
    assert said.code == 1
    assert page.index("2010-01-02.txt") < page.index("2010-01-01.txt") < page.index("2010-01-03.txt")
    assert "2010-01-&lt;b&gt;" in page
    assert "3 verified = 2 same + 1 different" in page
    Path("notes.html").write_text("mine")
    said = say(*words[:-1], "notes.html")
    assert said.code == 2
    assert "is there already" in said.err
    assert "3 verified = 2 same + 1 different" in said.out  # what was found is not lost
    assert Path("notes.html").read_text() == "mine"


@pytest.mark.box
def test_verify_says_its_seed_and_takes_it_again(past: Past, say: Say, file: str) -> None:
    line = ("verify", file, "Day", "--from", "2010-01-01", "--to", "2010-01-05", "--sample", "2", "--format", "json")
    first = json.loads(say(*line).out)
    seed = str(first["range"]["seed"])
    second = json.loads(say(*line, "--seed", seed).out)
    assert [row["task"] for row in first["outputs"]] == [row["task"] for row in second["outputs"]]


def test_verify_without_a_box_to_make_says_what_cannot_be(past: Past, say: Say, file: str) -> None:
    said = say("verify", file, "Day", "--date", "2010-01-09", "--format", "json")
    assert said.code == 1
    (row,) = json.loads(said.out)["outputs"]
    assert (row["verdict"], row["reason"]) == ("cannot", "not_done")
    assert "it is not done: 2010-01-09.txt is not there" in row["sentence"]
    assert said.err.startswith("[1/1] CANNOT     Day(date=2010-01-09, name=x): it is not done")
    assert os.listdir(past.state.stage_path) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "which of these tasks?"),
        (("Day",), "Day needs --date YYYY-MM-DD"),
        (("Day", "--date", "2010-01-01", "--sample", "2"), "--sample goes with a range"),
        (("Day", "--date", "2010-01-01", "--inclusive"), "--inclusive goes with a range"),
        (("Day", "--from", "2010-01-01"), "--to"),
        (("Day", "--from", "2010-01-01", "--to", "2010-01-03", "--seed", "2"), "--seed goes with --sample"),
        (("Day", "--from", "2010-01-01", "--to", "2010-01-03", "--sample", "x"), "a sample of 'x' is neither"),
        (("Day", "--from", "2010-01-01", "--to", "2010-01-03", "--date", "2010-01-01"), "and a range as well"),
        (("Day", "--from", "2011-01-01", "--to", "2011-01-03"), "nothing of it is done"),
        (("Day", "--date", "2010-01-01", "--relative", "-1"), "'-1' is not a number of 0 or more"),
        (("Day", "--date", "2010-01-01", "--absolute", "nan"), "'nan' is not a number of 0 or more"),
        (("Day", "--date", "2010-01-01", "--workers", "0"), "'0' is not a whole number of 1 or more"),
    ],
)
def test_verify_refuses_what_it_cannot_do(
    past: Past, say: Say, file: str, words: tuple[str, ...], sentence: str
) -> None:
    said = say("verify", file, *words)
    assert (said.code, sentence in said.err) == (2, True), said.err
    assert "Traceback" not in said.err
